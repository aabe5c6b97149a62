// What is streamed: a microphone, samples of a file, or an example that a model has. Each calls
// `emit(content, seconds)` for each chunk, and `done()` when there is no more; `stop()` ends it.

export const CHUNK_S = 0.05;
const LARGEST_FILE_BYTES = 64 * 2 ** 20;
const DECODED_RATE_HZ = 48_000;
const SLOWEST_S = 3; // an example takes at least so long, if need be slowed down

/** Something that a person has to do something about; its message says what. */
export class SourceError extends Error {}

const MICROPHONE_PROBLEMS = {
  NotAllowedError:
    "The browser refused the microphone. Allow it in the site settings beside the address, then press Speak again. " +
    "Recordings and files need no microphone.",
  NotFoundError: "There is no microphone. Connect one and press Speak again, or play a recording.",
  NotReadableError: "Another program uses the microphone. Close it there and press Speak again, or play a recording.",
};

export const INSECURE =
  "Browsers give a page no microphone that came over plain HTTP from another machine. Open it through HTTPS, or on " +
  "the server itself as http://localhost. Recordings and files work here too.";

/** The microphone at its own rate, as 16-bit samples, without the processing that would change what is heard. */
export async function openMicrophone() {
  if (!isSecureContext || !navigator.mediaDevices) throw new SourceError(INSECURE);
  let media;
  try {
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    media = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    throw new SourceError(MICROPHONE_PROBLEMS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  } catch (error) {
    for (const track of media.getTracks()) track.stop();
    await context.close();
    throw new SourceError(`The browser cannot capture sound here: ${error.message}`);
  }
  const length = Math.round(CHUNK_S * context.sampleRate);
  const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, processorOptions: { length } });
  return {
    rate_hz: context.sampleRate,
    start(emit, done) {
      node.port.onmessage = ({ data }) => emit(data, length / context.sampleRate);
      context.createMediaStreamSource(media).connect(node);
      media.getAudioTracks()[0].onended = done; // unplugged, or no longer allowed
      context.resume();
    },
    stop() {
      node.port.onmessage = null;
      for (const track of media.getTracks()) track.stop();
      if (context.state !== "closed") context.close();
    },
  };
}

/** Emits chunks as time passes: `cut(n)` makes the n-th of `count` chunks. */
function paced(count, interval_s, duration_s, cut) {
  let timer = null;
  return {
    start(emit, done) {
      const begin_ms = performance.now();
      let next = 0;
      const tick = () => {
        const due = (performance.now() - begin_ms) / 1000 / interval_s;
        while (next < count && next + 1 <= due) {
          if (!emit(cut(next), duration_s)) break; // too much waits for the server: this one comes again
          next++;
        }
        if (next < count) timer = setTimeout(tick, 1000 * Math.min(interval_s, CHUNK_S));
        else done();
      };
      tick();
    },
    stop() {
      clearTimeout(timer);
    },
  };
}

/** Samples [n], 16 bits, as if they were spoken now. */
export function fromSamples({ samples, rate_hz }) {
  const length = Math.round(CHUNK_S * rate_hz);
  const cut = (n) => samples.slice(n * length, (n + 1) * length).buffer;
  return { rate_hz, ...paced(Math.ceil(samples.length / length), CHUNK_S, CHUNK_S, cut) };
}

/** Several sounds of one rate with silence before, between and after them. */
export function joined(sounds, pause_s) {
  const { rate_hz } = sounds[0];
  const pause = Math.round(pause_s * rate_hz);
  const length = sounds.reduce((sum, { samples }) => sum + samples.length + pause, pause);
  const samples = new Int16Array(length);
  let at = pause;
  for (const sound of sounds) {
    samples.set(sound.samples, at);
    at += sound.samples.length + pause;
  }
  return { samples, rate_hz };
}

/** The samples of a sound file: those of a 16-bit WAV file as they are, of others as the browser decodes them. */
export async function decodeSound(content, name) {
  if (content.byteLength > LARGEST_FILE_BYTES) {
    throw new SourceError(`${name} is larger than 64 MiB: choose a shorter one.`);
  }
  const wav = decodeWav(content);
  if (wav) return wav;
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, DECODED_RATE_HZ).decodeAudioData(content);
  } catch {
    throw new SourceError(`${name} is no sound that this browser can decode: choose a WAV, FLAC, Ogg or MP3 file.`);
  }
  const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
  const samples = new Int16Array(sound.length);
  for (let n = 0; n < samples.length; n++) {
    const mean = channels.reduce((sum, channel) => sum + channel[n], 0) / channels.length;
    samples[n] = Math.max(-32768, Math.min(32767, Math.round(32768 * mean)));
  }
  return { samples, rate_hz: sound.sampleRate };
}

function decodeWav(content) {
  const view = new DataView(content);
  const text = (at) => String.fromCharCode(...new Uint8Array(content, at, 4));
  if (content.byteLength < 44 || text(0) !== "RIFF" || text(8) !== "WAVE") return null;
  let rate_hz = 0;
  for (let at = 12; at + 8 <= content.byteLength; ) {
    const length = view.getUint32(at + 4, true);
    const begin = at + 8;
    if (text(at) === "fmt ") {
      const [kind, channels, bits] = [0, 2, 14].map((offset) => view.getUint16(begin + offset, true));
      if (kind !== 1 || channels !== 1 || bits !== 16) return null;
      rate_hz = view.getUint32(begin + 4, true);
    } else if (text(at) === "data" && rate_hz) {
      const count = Math.min(length, content.byteLength - begin) >> 1;
      return { samples: new Int16Array(content.slice(begin, begin + 2 * count)), rate_hz };
    }
    at = begin + length + (length & 1);
  }
  return null;
}

/** An example of a model, `input` of GET /models/{name}/example, in chunks for the encoding `events` or `values`. */
export function fromExample(input, step_s) {
  const steps = input.kind === "events" ? input.steps : input.values.length;
  const slowness = Math.max(1, SLOWEST_S / (steps * step_s));
  const perChunk = Math.max(1, Math.round(CHUNK_S / (slowness * step_s)));
  const cut = (n) => {
    const [begin, end] = [n * perChunk, Math.min(steps, (n + 1) * perChunk)];
    return input.kind === "events" ? packEvents(input, begin, end) : packValues(input.values.slice(begin, end));
  };
  const duration_s = perChunk * step_s;
  return { slowness, ...paced(Math.ceil(steps / perChunk), slowness * duration_s, duration_s, cut) };
}

/** docs/reference/http-api.md has the format. */
function packEvents({ times, units }, begin, end) {
  const spikes = times.map((time, n) => [time - begin, units[n]]).filter(([time]) => time >= 0 && time < end - begin);
  const view = new DataView(new ArrayBuffer(12 + 4 * spikes.length));
  [..."HSE1"].forEach((letter, n) => view.setUint8(n, letter.charCodeAt(0)));
  view.setUint32(4, end - begin, true);
  view.setUint32(8, spikes.length, true);
  spikes.forEach(([time, unit], n) => {
    view.setUint16(12 + 2 * n, time, true);
    view.setUint16(12 + 2 * (spikes.length + n), unit, true);
  });
  return view.buffer;
}

function packValues(rows) {
  const view = new DataView(new ArrayBuffer(4 * rows.length * (rows[0]?.length ?? 0)));
  rows.flat().forEach((value, n) => view.setFloat32(4 * n, value, true));
  return view.buffer;
}
