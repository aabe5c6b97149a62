// The page: chooses a model and a source, streams it, and says what is going on.

import { hasKey, keep, withKey } from "./key.js";
import { INSECURE, SourceError, decodeSound, fromExample, fromSamples, joined, openMicrophone } from "./sources.js";
import { Stream, address } from "./stream.js";
import { Views } from "./views.js";

const MOST_WAITING_S = 30; // of input that waits here while the server is away
const PAUSE_S = 0.6; // between the words of all recordings
const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

const LOST = "Connected again. The server kept no sessions, so a new one goes on (see hetsyn serve --store).";
const RESUMED = "Connected again. The session goes on: nothing was lost, nothing counted twice.";

const byId = (id) => document.getElementById(id);
const views = new Views();
const page = { chosen: null, model: null, source: null, stream: null, lost_s: 0, attempt: 0, timer: null };

// What the page says: a problem in the alert, which is read out at once, all else in the status. What changes all the
// time stands beside it, and is not read out.

function tell(text, problem = "") {
  clearInterval(page.timer);
  byId("status").textContent = text;
  byId("alert").textContent = problem;
  byId("countdown").textContent = "";
}

function tellWaiting(reason, detail, delay_s) {
  const due_ms = performance.now() + 1000 * delay_s;
  const sentence = {
    full: "The server is full and takes nothing more now.",
    gone: "The server cannot be reached.",
    unavailable: `The server cannot take the stream now: ${detail}.`,
    ending: "The server is restarting.",
  }[reason];
  tell("Trying again. Meanwhile the input waits here.", sentence);
  const count = () => {
    const left_s = Math.max(0, Math.ceil((due_ms - performance.now()) / 1000));
    const { waiting_s = 0 } = page.stream ?? {};
    const lost = page.lost_s ? `, ${page.lost_s.toFixed(1)} s are lost` : "";
    byId("countdown").textContent = `Next attempt in ${left_s} s, with ${waiting_s.toFixed(1)} s of input${lost}.`;
  };
  count();
  page.timer = setInterval(count, 200);
}

// Running and stopping

function isRunning() {
  return page.stream !== null;
}

function showRunning() {
  const speak = byId("speak");
  speak.textContent = isRunning() ? "Stop" : page.model?.takesSound ? "Speak" : "Play example";
  for (const id of ["play", "open", "recording", "example"]) byId(id).disabled = isRunning();
  document.body.classList.toggle("running", isRunning());
}

function run(source, query, text, slowness = 1) {
  const { model } = page;
  page.source = source;
  page.lost_s = 0;
  views.begin(model, slowness, source.isLive ? model.invitation : "–");
  let step_s = model.step_s;
  const mine = () => page.stream === stream;
  const parameters = { model: model.name, version: model.version, spikes: true, timing: true, ...query };
  const stream = new Stream(parameters, MOST_WAITING_S * slowness, {
    begun({ resumed, lost, frame }) {
      if (!mine()) return;
      step_s = frame.step_ms / 1000;
      if (lost) views.clear(model, slowness);
      byId("session").textContent = `Session ${frame.session}`;
      const gap_s = page.lost_s;
      page.lost_s = 0;
      if (gap_s) tell(`Connected again. ${gap_s.toFixed(1)} s of sound were lost meanwhile.`);
      else if (lost) tell(LOST);
      else if (resumed) tell(RESUMED);
      else tell(text);
    },
    frame(frame, sent) {
      if (!mine()) return;
      if (frame.type === "Result") views.result(frame, step_s, sent);
      if (frame.type === "UtteranceEnd" && !model.isTrace) views.word(frame);
    },
    waiting({ reason, detail, delay_s }) {
      if (mine()) tellWaiting(reason, detail, delay_s);
    },
    ended(problem) {
      if (mine()) finished(problem);
      if (problem?.status === 401) byId("access").hidden = false;
    },
  });
  page.stream = stream;
  source.start(
    (content, duration_s) => {
      const taken = stream.send(content, duration_s);
      if (!taken && source.isLive && mine()) {
        if (!page.lost_s) byId("status").textContent = "The server is away for too long: new sound is lost.";
        page.lost_s += duration_s;
      }
      return taken;
    },
    () => stop(),
  );
  showRunning();
}

/** No more input: what was sent is still answered. */
function stop() {
  page.source?.stop();
  page.stream?.finish();
}

/** The session is over. */
function finished(problem) {
  page.source.stop();
  page.stream = null;
  if (problem) tell("", `The server refused the stream: ${problem.detail}.`);
  else tell("");
  views.say(null, null);
  showRunning();
}

/** Leave what is under way, without an answer. */
function leave() {
  page.attempt++;
  page.source?.stop();
  page.stream?.abandon();
  page.stream = null;
  showRunning();
}

/** Open a source and run it; only the latest attempt counts. `open` makes the arguments of `run`. */
async function attempt(open) {
  leave();
  const mine = page.attempt;
  tell("");
  try {
    const [source, ...how] = await open();
    if (mine === page.attempt) run(source, ...how);
    else source.stop();
  } catch (error) {
    if (mine === page.attempt) tell("", error instanceof SourceError ? error.message : `${error.message}.`);
  }
}

const pcm = ({ rate_hz }) => ({ encoding: "pcm_s16le", sample_rate: rate_hz });

function ofSound(sound, text) {
  const source = fromSamples(sound);
  return [source, pcm(source), text];
}

async function fetched(path, query) {
  let response;
  try {
    response = await fetch(address(path, query), withKey());
  } catch {
    throw new SourceError("The server cannot be reached. Start it again, or reload the page when it is back.");
  }
  if (!response.ok) {
    const { detail } = await response.json().catch(() => ({ detail: response.statusText }));
    if (response.status === 401) {
      askForKey();
      if (!hasKey()) throw new SourceError("This server asks for a key.");
    }
    throw new SourceError(`The server refused: ${detail}.`);
  }
  return response;
}

const speak = () =>
  attempt(async () => {
    tell("Waiting for the microphone: allow it in the browser's question.");
    const source = await openMicrophone();
    const kHz = source.rate_hz / 1000;
    const text = `Listening at ${kHz} kHz.`;
    return [{ ...source, isLive: true }, pcm(source), text];
  });

const playRecording = () =>
  attempt(async () => {
    const choice = byId("recording").value;
    const names = choice === "all" ? DIGITS : [choice];
    const sounds = await Promise.all(
      names.map(async (name) => {
        const response = await fetched(`page/recordings/${name}.wav`);
        return decodeSound(await response.arrayBuffer(), name);
      }),
    );
    return ofSound(joined(sounds, PAUSE_S), choice === "all" ? "Playing ten recordings." : `Playing ${choice}.`);
  });

const playFile = (file) =>
  attempt(async () => {
    const sound = await decodeSound(await file.arrayBuffer(), file.name);
    return ofSound(sound, `Playing ${file.name}.`);
  });

const playExample = () =>
  attempt(async () => {
    const { name, version } = page.model;
    const index = Number(byId("example").value);
    const { input } = await (await fetched(`models/${encodeURIComponent(name)}/example`, { version, index })).json();
    const source = fromExample(input, page.model.step_s);
    const slow = source.slowness > 1.05 ? `, ${Number(source.slowness.toPrecision(2))} times slower` : "";
    const isEvents = input.kind === "events";
    const query = isEvents ? { encoding: "events" } : { encoding: "values", channels: input.values[0].length };
    return [source, query, `Playing example ${index + 1}${slow}.`, source.slowness];
  });

function askForKey() {
  leave();
  byId("access").hidden = false;
  byId("key").focus();
}

// Models

async function choose(name) {
  leave();
  tell("");
  page.chosen = name; // what is answered late must not replace a later choice
  const described = await (await fetched(`models/${encodeURIComponent(name)}`)).json();
  if (page.chosen !== name) return;
  const takesSound = described.inputs.includes("audio");
  const known = described.labels.filter((label) => !(described.rejected_labels ?? []).includes(label));
  page.model = {
    name,
    version: described.version,
    labels: described.labels,
    step_s: described.input.step_s,
    layers: layersOf(described),
    isTrace: described.decision.rule === "trace",
    takesSound,
    invitation: takesSound && known.length ? `Say “${known[3 % known.length]}”` : "–",
  };
  const says = takesSound ? ` It knows: ${known.join(", ")}. Pause between words.` : "";
  byId("about").textContent = `${described.description}.${says}`;
  byId("sound").hidden = !takesSound;
  byId("examples").hidden = takesSound;
  if (!takesSound) await listExamples(name, described.version);
  if (page.chosen !== name) return;
  views.begin(page.model, 1, page.model.invitation);
  showRunning();
  if (takesSound && !isSecureContext) tell(INSECURE);
}

function layersOf({ input, hidden }) {
  const layers = hidden.map((size, n) => ({ name: `hidden${n + 1}`, size }));
  return input.kind === "spikes" ? [{ name: "input", size: input.channels }, ...layers] : layers;
}

async function listExamples(name, version) {
  const { count } = await (await fetched(`models/${encodeURIComponent(name)}/example`, { version })).json();
  const options = Array.from({ length: count }, (_, n) => new Option(`Example ${n + 1}`, n));
  byId("example").replaceChildren(...options);
}

async function begin() {
  const { models, default_model } = await (await fetched("models")).json();
  const names = models.map(({ name }) => name);
  const wanted = new URLSearchParams(location.search).get("model");
  const chosen = names.includes(wanted) ? wanted : (default_model ?? names[0]);
  byId("model").replaceChildren(...names.map((name) => new Option(name, name, name === chosen, name === chosen)));
  await choose(chosen);
  if (wanted !== null && chosen !== wanted) {
    tell(byId("status").textContent, `There is no model “${wanted}” on this server: choose another one.`);
  }
}

const orTell = (promise) => promise.catch((error) => tell("", error.message));

byId("model").onchange = ({ target }) => orTell(choose(target.value));
byId("speak").onclick = () => {
  if (isRunning()) stop();
  else if (page.model?.takesSound) speak();
  else if (page.model) playExample();
};
byId("play").onclick = playRecording;
byId("open").onclick = () => byId("file").click();
byId("file").onchange = ({ target }) => {
  if (target.files.length) playFile(target.files[0]);
  target.value = "";
};
byId("access").onsubmit = (event) => {
  event.preventDefault();
  if (!keep(byId("key").value)) return tell("", "This is no key: it begins with hsk_, and hetsyn keys has shown it.");
  byId("key").value = "";
  byId("access").hidden = true;
  tell("");
  orTell(begin());
};
addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && isRunning()) stop();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const file = event.dataTransfer.files[0];
  if (file && page.model?.takesSound) playFile(file);
});

addEventListener("pagehide", leave);

showRunning();
orTell(begin());
