// A session on WS /stream. It numbers the chunks, keeps those that are not acknowledged, and goes on after a break.

import { protocols, withKey } from "./key.js";

const SUBPROTOCOL = "hetsyn.v1";
const PAUSES_S = [0.5, 1, 2, 4, 8]; // before the next attempts, until a chunk is answered again
const LONGEST_PAUSE_S = 15; // a full server names the time by which it has room for sure; it may have some earlier
const ASK_S = 5; // the longest wait for the reason of a refusal
const PROXY = [502, 504]; // a proxy found no server

/** The address of a path of this server, which may be behind a proxy that adds a prefix. */
export function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  url.search = new URLSearchParams(query).toString();
  return url;
}

function newId() { // crypto.randomUUID needs a secure context
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * One session.
 *
 * query: parameters of /stream, without `session`.
 * most_s: seconds of input that may wait here for the server.
 * on: functions.
 *   begun({ resumed, lost, frame }): a connection was opened; `lost`: the server does not know the session any more.
 *   frame(frame, sent): a Result (`sent` has the chunk's times in ms), a SpeechStarted, or an UtteranceEnd that is new.
 *   waiting({ reason, detail, delay_s }): there is no connection, for reason gone, full, unavailable or ending.
 *   ended(problem): the session is over; `problem` is null, or { status, detail }.
 */
export class Stream {
  constructor(query, most_s, on) {
    this.query = query;
    this.on = on;
    this.most_s = most_s;
    this.session = newId();
    this.chunks = []; // not acknowledged, oldest first: { content, duration_s, sent_ms }
    this.first = 0; // number of the oldest
    this.sent = 0; // how many of them were sent on this connection
    this.waiting_s = 0; // seconds of input in them
    this.utterance = 0; // the next that is new
    this.inflight = 1;
    this.isOver = false;
    this.isEnding = false;
    this.hasBegun = false;
    this.isKept = false; // the server has kept a chunk of this session, so it has to know it
    this.failures = 0;
    this.problem = null; // the last Error frame of the connection
    this.retry = () => this.#retryNow();
    addEventListener("online", this.retry);
    this.#open();
  }

  /** Send a chunk, now or later; false: too much waits already, and the chunk was not taken. */
  send(content, duration_s) {
    if (this.isOver || this.isEnding || this.waiting_s + duration_s > this.most_s) return false;
    this.chunks.push({ content, duration_s, sent_ms: 0 });
    this.waiting_s += duration_s;
    this.#pump();
    return true;
  }

  /** End the session after the chunks so far. */
  finish() {
    this.isEnding = true;
    this.#pump();
  }

  /** Give the session up: nobody will ask for it again. */
  abandon() {
    if (this.isOver) return;
    this.#over();
    this.socket.close();
    fetch(address(`sessions/${this.session}`), withKey({ method: "DELETE", keepalive: true })).catch(() => {});
  }

  #open() {
    this.timer = null;
    this.isReady = false;
    this.wasClosed = false;
    this.problem = null;
    const url = address("stream", this.#whole());
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, protocols(SUBPROTOCOL));
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#received(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (!this.isOver) this.#closed(code);
    };
    this.socket = socket;
  }

  #whole() {
    return { ...this.query, session: this.session, ...(this.isKept ? { resume: true } : {}) };
  }

  #received(frame) {
    if (this.isOver) return;
    if (frame.type === "Begin") this.#begun(frame);
    else if (frame.type === "Result") this.#answered(frame);
    else if (frame.type === "UtteranceEnd") this.#utteranceEnded(frame);
    else if (frame.type === "Termination") this.#end(null);
    else if (frame.type === "Error") this.problem = frame;
    else this.on.frame(frame);
  }

  #begun(frame) {
    const lost = frame.next_seq < this.first;
    if (lost) { // it begins anew with the chunks that are here
      this.first = frame.next_seq;
      this.utterance = 0;
    }
    while (this.first < frame.next_seq && this.chunks.length) this.#acknowledge();
    this.first = frame.next_seq;
    this.sent = 0;
    this.inflight = frame.max_inflight;
    this.isReady = true;
    this.on.begun({ resumed: this.hasBegun && frame.resumed, lost, frame });
    this.hasBegun = true;
    this.#pump();
  }

  #acknowledge() {
    const chunk = this.chunks.shift();
    this.isKept = true;
    this.first++;
    this.sent = Math.max(0, this.sent - 1);
    this.waiting_s -= chunk.duration_s;
    return chunk;
  }

  #answered(frame) {
    this.failures = 0;
    let chunk = null;
    while (this.first <= frame.seq && this.chunks.length) chunk = this.#acknowledge();
    this.on.frame(frame, chunk && { sent_ms: chunk.sent_ms, received_ms: performance.now() });
    this.#pump();
  }

  #utteranceEnded(frame) {
    if (frame.utterance < this.utterance) return; // told again after a break
    this.utterance = frame.utterance + 1;
    this.on.frame(frame);
  }

  #pump() {
    if (!this.isReady || this.socket.readyState !== WebSocket.OPEN) return;
    while (this.sent < this.chunks.length && this.sent < this.inflight) {
      const chunk = this.chunks[this.sent++];
      chunk.sent_ms = performance.now();
      this.socket.send(chunk.content);
    }
    if (this.isEnding && this.sent === this.chunks.length && !this.wasClosed) {
      this.wasClosed = true;
      this.socket.send(JSON.stringify({ type: "CloseStream" }));
    }
  }

  async #closed(code) {
    const problem = this.problem;
    this.isReady = false;
    if (code === 1000) return this.#end(null);
    if (problem?.problem === "not-found" && this.isKept) return this.#renew();
    if (problem && code >= 4000 && problem.problem !== "idle") return this.#end(problem);
    if (code === 1012) return this.#wait("ending", problem?.detail ?? "", 0);
    if (problem?.retryable) return this.#unavailable(problem.problem, problem.detail, problem.retry_after_s);
    return this.#askWhy();
  }

  /** A browser does not say why a handshake was refused; a plain request is refused for the same reason. */
  async #askWhy() {
    let response, body;
    try {
      const signal = AbortSignal.timeout(1000 * ASK_S);
      response = await fetch(address("stream", this.#whole()), withKey({ cache: "no-store", signal }));
      body = (await response.json().catch(() => null)) ?? {};
    } catch {
      return this.#wait("gone", "", 0);
    }
    if (this.isOver) return;
    const { status } = response;
    const detail = body.detail ?? response.statusText;
    const after_s = Number(response.headers.get("Retry-After")) || 0;
    if (status === 426 || PROXY.includes(status)) return this.#wait("gone", "", after_s);
    if (status === 503 || status === 429) return this.#unavailable(body.type ?? "overloaded", detail, after_s);
    if (status === 404 && this.isKept) return this.#renew();
    if (body.type?.endsWith(":session-ended") && this.isEnding) return this.#lastReply();
    return this.#end({ status, detail });
  }

  #unavailable(problem, detail, after_s) {
    this.#wait(problem.endsWith("overloaded") ? "full" : "unavailable", detail, after_s);
  }

  /** The session has ended, and the connection broke before it was told: the final reply is kept for a while. */
  async #lastReply() {
    const seq = this.first + this.chunks.length;
    const body = JSON.stringify({ session: this.session, seq, end: true });
    const headers = { "Content-Type": "application/json" };
    let response, reply;
    try {
      response = await fetch(address("infer"), withKey({ method: "POST", body, headers }));
      reply = await response.json();
    } catch {
      return this.#wait("gone", "", 0);
    }
    if (this.isOver) return;
    if (!response.ok) return this.#end({ status: response.status, detail: reply.detail });
    const whole = { ...reply, type: "UtteranceEnd", utterance: 0, start: 0, end: null, trigger: "end" };
    for (const event of reply.events ?? [whole]) if (event.type === "UtteranceEnd") this.#utteranceEnded(event);
    this.#end(null);
  }

  /** The server has dropped the session: go on with another. */
  #renew() {
    this.session = newId();
    this.isKept = false;
    this.#open();
  }

  #wait(reason, detail, after_s) {
    if (this.isOver) return;
    const pause_s = PAUSES_S[Math.min(this.failures++, PAUSES_S.length - 1)];
    const delay_s = Math.min(LONGEST_PAUSE_S, Math.max(after_s, pause_s * (0.8 + 0.4 * Math.random())));
    this.timer = setTimeout(() => this.#open(), 1000 * delay_s);
    this.on.waiting({ reason, detail, delay_s });
  }

  #retryNow() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.#open();
  }

  #end(problem) {
    this.#over();
    this.on.ended(problem);
  }

  #over() {
    this.isOver = true;
    clearTimeout(this.timer);
    removeEventListener("online", this.retry);
  }
}
