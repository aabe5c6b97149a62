// Where the time of each chunk went: a bar a chunk, a part a colour, and the medians.

import { colour } from "./ring.js";

const SHOWN = 60; // chunks
const [GUTTER, TEXT] = [48, 11]; // of the scale, in pixels of the style sheet
const PARTS = [ // as they are stacked, from below
  ["network", "Network"],
  ["queue", "Waiting"],
  ["engine", "Computing"],
  ["store", "Storing"],
];

/** The next 1, 2 or 5 times a power of ten. */
function round(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].find((digit) => digit * power >= number) * power;
}

export class Latency {
  constructor(canvas, body) {
    this.canvas = canvas;
    this.chunks = [];
    this.rows = Object.fromEntries(
      [...PARTS, ["total", "Total"]].map(([name, text]) => {
        const row = body.insertRow();
        const head = document.createElement("th");
        head.scope = "row";
        const key = document.createElement("i");
        key.className = `key ${name}`;
        head.append(key, text);
        row.append(head);
        return [name, row.insertCell()];
      }),
    );
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.clear();
  }

  clear() {
    this.chunks = [];
    this.draw();
  }

  /** A chunk that took `total_ms` here, and of it the times that the server says. */
  add(total_ms, timing) {
    const { queue_ms: queue = 0, engine_ms: engine = 0, store_ms: store = 0 } = timing ?? {};
    const network = Math.max(0, total_ms - queue - engine - store);
    this.chunks.push({ network, queue, engine, store, total: total_ms });
    if (this.chunks.length > SHOWN) this.chunks.shift();
  }

  draw() {
    for (const [name, cell] of Object.entries(this.rows)) cell.textContent = this.#median(name);
    const scale = devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth * scale, this.canvas.clientHeight * scale].map(Math.round);
    [this.canvas.width, this.canvas.height] = [width, height];
    const pen = this.canvas.getContext("2d");
    const most = round(Math.max(10, ...this.chunks.map(({ total }) => total)));
    this.#drawScale(pen, width, height, most, scale);
    const step = (width - GUTTER * scale) / SHOWN;
    const colours = PARTS.map(([name]) => [name, colour(name)]);
    this.chunks.forEach((chunk, n) => {
      const x = width - (this.chunks.length - n) * step;
      let y = height;
      for (const [name, ink] of colours) {
        const length = (chunk[name] / most) * height;
        pen.fillStyle = ink;
        pen.fillRect(x, y - length, Math.max(1, step - scale), length);
        y -= length;
      }
    });
  }

  /** Draw lines at the top and in the middle, with their times. */
  #drawScale(pen, width, height, most, scale) {
    pen.font = `${TEXT * scale}px ${getComputedStyle(this.canvas).fontFamily}`;
    pen.textBaseline = "top";
    pen.textAlign = "right";
    for (const part of [1, 0.5]) {
      const y = Math.round((1 - part) * height);
      pen.fillStyle = colour("line");
      pen.fillRect(GUTTER * scale, y, width, scale);
      pen.fillStyle = colour("muted");
      const ms = most * part;
      pen.fillText(ms < 1000 ? `${ms} ms` : `${ms / 1000} s`, (GUTTER - 6) * scale, y);
    }
  }

  #median(name) {
    if (!this.chunks.length) return "–";
    const sorted = this.chunks.map((chunk) => chunk[name]).sort((a, b) => a - b);
    return `${sorted[sorted.length >> 1].toFixed(1)} ms`;
  }
}
