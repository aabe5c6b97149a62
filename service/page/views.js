// What a session looks like: its spikes, its probabilities or traces, its words and the time that its chunks take.

import { Latency } from "./latency.js";
import { Heat, Raster, Trace, onAppearance } from "./ring.js";

const WINDOW_S = 6;
const MOST_WORDS = 100;
const LABEL_MS = 1000; // between two descriptions of a canvas for those who do not see it

const byId = (id) => document.getElementById(id);

function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function percent(probability) {
  return `${Math.round(100 * probability)}%`;
}

export class Views {
  constructor() {
    this.rings = new Map();
    this.latency = new Latency(byId("latency"), byId("parts").tBodies[0]);
    this.last = { word: "–", certainty: "" }; // that was heard
    this.isDue = false;
    onAppearance(() => {
      for (const ring of this.rings.values()) ring.resize();
      this.latency.draw();
    });
  }

  /**
   * Begin with a model: `slowness` says how much slower than in truth its input is streamed. The invitation stands where
   * the first word will.
   */
  begin(model, slowness = 1, invitation = "–") {
    byId("words").replaceChildren();
    byId("words-title").textContent = model.takesSound ? "Words" : "Answers";
    byId("no-words").hidden = false;
    this.last = { word: invitation, certainty: "" };
    this.nameless = model.takesSound ? "no word" : "none";
    this.clear(model, slowness);
  }

  /** Begin anew, but keep the words. */
  clear({ labels, isTrace, layers }, slowness = 1) {
    for (const ring of this.rings.values()) ring.remove();
    this.rings.clear();
    this.window_s = WINDOW_S / slowness;
    byId("raster").replaceChildren();
    for (const layer of layers) this.#layer(layer);
    this.#answerRows(labels, isTrace);
    const shown_s = this.window_s;
    const ago = shown_s < 1 ? `${Math.round(1000 * shown_s)} ms` : `${Math.round(10 * shown_s) / 10} s`;
    document.querySelector(".axis span").textContent = `${ago} ago`;
    this.latency.clear();
    this.say(null, null);
  }

  #answerRows(labels, isTrace) {
    byId("answer-title").textContent = isTrace ? "Trace" : "Probabilities";
    for (const hidden of ["now", "heard"]) document.querySelector(`.${hidden}`).hidden = isTrace;
    const [row, names, canvas] = [made("div", "row answer"), made("ul", "names"), made("canvas", "")];
    names.setAttribute("aria-hidden", "true");
    for (const label of isTrace ? ["trace"] : labels) names.append(made("li", "", label));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", isTrace ? "Trace that the network draws" : "Probability of each label over time");
    row.append(names, canvas);
    canvas.style.height = `${isTrace ? 160 : Math.min(320, Math.max(120, 18 * labels.length))}px`;
    byId("answer").replaceChildren(row);
    const ring = isTrace ? new Trace(canvas, this.window_s) : new Heat(canvas, this.window_s, labels.length);
    this.rings.set("answer", ring);
  }

  #layer({ name, size }) {
    const key = `spikes ${name}`;
    if (!this.rings.has(key)) {
      const [row, names, canvas] = [made("div", "row"), made("p", "names"), made("canvas", "")];
      names.append(made("b", "", name.replace(/(\d+)$/, " $1")), made("span", "", `${size} neurons`));
      if (name === "input") names.lastChild.textContent = `${size} channels`;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Spikes of ${name}: none yet`);
      canvas.className = name === "input" ? "tall" : "";
      row.append(names, canvas);
      byId("raster").append(row);
      const ring = new Raster(canvas, this.window_s, size, name === "input" ? "ink" : "accent");
      ring.described_ms = -LABEL_MS;
      this.rings.set(key, ring);
    }
    return this.rings.get(key);
  }

  /** A chunk was answered. */
  result(frame, step_s, sent) {
    const begin_s = frame.start;
    const end_s = begin_s + frame.duration;
    if (frame.spikes) this.#keepLayers(frame.spikes.layers.map(({ name }) => `spikes ${name}`));
    for (const layer of frame.spikes?.layers ?? []) {
      const ring = this.#layer(layer);
      ring.add({ begin_s, end_s, step_s, times: layer.times, units: layer.units });
      this.#describe(ring, layer);
    }
    const answer = this.rings.get("answer");
    if (answer instanceof Trace) {
      if (frame.readout) answer.add({ begin_s, end_s, step_s, rows: frame.readout });
    } else {
      answer.add({ begin_s, end_s, probabilities: frame.probabilities });
      this.say(frame.label, frame.probabilities && Math.max(...frame.probabilities));
    }
    if (sent) this.latency.add(sent.received_ms - sent.sent_ms, frame.timing);
    this.#draw();
  }

  /** Remove the rows of layers of which the server tells nothing. */
  #keepLayers(keys) {
    for (const [key, ring] of this.rings) {
      if (!key.startsWith("spikes ") || keys.includes(key)) continue;
      ring.remove();
      ring.canvas.parentElement.remove();
      this.rings.delete(key);
    }
  }

  #describe(ring, { name }) {
    const now_ms = performance.now();
    if (now_ms < ring.described_ms + LABEL_MS) return;
    ring.described_ms = now_ms;
    const count = ring.items.reduce((sum, { times }) => sum + times.length, 0);
    ring.canvas.setAttribute("aria-label", `Spikes of ${name}: ${count} in ${Math.round(10 * ring.window_s) / 10} s`);
  }

  #draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      for (const ring of this.rings.values()) ring.show();
      this.latency.draw();
    });
  }

  /** What the network takes the input for, so far. While it hears nothing, the last word stays. */
  say(label, probability) {
    byId("word").textContent = label ?? this.last.word;
    byId("word").classList.toggle("quiet", label === null);
    byId("certainty").textContent = label === null ? this.last.certainty : percent(probability);
  }

  /** An utterance has ended: with a word, or with none that the model knows. */
  word({ label, probabilities, start, end }) {
    if (!probabilities) return; // nothing was heard
    this.last = { word: label ?? this.nameless, certainty: label === null ? "" : percent(Math.max(...probabilities)) };
    this.say(null, null);
    const item = document.createElement("li");
    const when = end === null ? "" : `${start.toFixed(2)}–${end.toFixed(2)} s`;
    item.append(
      made("strong", label === null ? "quiet" : "", this.last.word),
      made("span", "number", when),
      made("span", "number", this.last.certainty),
    );
    const words = byId("words");
    words.prepend(item);
    while (words.children.length > MOST_WORDS) words.lastChild.remove();
    byId("no-words").hidden = true;
  }
}
