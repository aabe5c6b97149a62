// Canvases that show the last seconds of a session. A ring of columns keeps what was drawn, so a chunk costs what is
// new in it, and a frame costs two copies.

const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** A colour of the style sheet. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Call something when colours or the preference for motion change. */
export function onAppearance(act) {
  for (const query of [dark, still]) query.addEventListener("change", act);
}

/**
 * A canvas over the last `window_s` seconds; the newest at its right edge. With reduced motion nothing scrolls: a gap
 * sweeps over the canvas, as on an oscilloscope. Subclasses draw items, which are kept for a redraw.
 */
export class Ring {
  constructor(canvas, window_s) {
    this.canvas = canvas;
    this.window_s = window_s;
    this.items = []; // { begin_s, end_s, ... } of the window
    this.store = document.createElement("canvas");
    this.resize();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
  }

  remove() {
    this.observer.disconnect();
  }

  /** Draw anew, in the size of the canvas on the screen. */
  resize() {
    const scale = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * scale));
    for (const canvas of [this.canvas, this.store]) [canvas.width, canvas.height] = [width, height];
    [this.width, this.height, this.scale] = [width, height, scale];
    this.head = -1; // the newest column
    this.pen = this.store.getContext("2d");
    this.prepare();
    for (const item of this.items) this.#put(item);
    this.show();
  }

  column(time_s) {
    return Math.floor((time_s / this.window_s) * this.width + 1e-6);
  }

  /** Add what happened between two times. */
  add(item) {
    this.items.push(item);
    while (this.items[0].end_s < item.end_s - this.window_s) this.items.shift();
    this.#put(item);
  }

  #put(item) {
    const last = Math.max(this.head, this.column(item.end_s) - 1);
    for (let column = Math.max(this.head + 1, last - this.width + 1); column <= last; column++) {
      this.pen.clearRect(column % this.width, 0, 1, this.height);
    }
    this.head = last;
    this.paint(item);
  }

  /** Fill columns `from` to `to` - 1, or one at least, of the rows at `y`; none beyond the newest. */
  fill(from, to, y, height) {
    const first = Math.min(from, this.head);
    const x = first % this.width;
    const width = Math.max(1, Math.min(to, this.head + 1) - first);
    this.pen.fillRect(x, y, width, height);
    if (x + width > this.width) this.pen.fillRect(x - this.width, y, width, height);
  }

  /** Copy the ring to the screen. */
  show() {
    const screen = this.canvas.getContext("2d");
    screen.clearRect(0, 0, this.width, this.height);
    const newest = (this.head + 1) % this.width;
    if (still.matches) {
      screen.drawImage(this.store, 0, 0);
      screen.clearRect(newest, 0, Math.round(12 * this.scale), this.height);
      screen.fillStyle = colour("line");
      screen.fillRect(newest, 0, this.scale, this.height);
      return;
    }
    if (newest) screen.drawImage(this.store, 0, 0, newest, this.height, this.width - newest, 0, newest, this.height);
    const older = this.width - newest;
    screen.drawImage(this.store, newest, 0, older, this.height, 0, 0, older, this.height);
  }

  prepare() {}
}

/** The spikes of a layer: items { begin_s, end_s, step_s, times, units }. */
export class Raster extends Ring {
  constructor(canvas, window_s, size, ink) {
    super(canvas, window_s);
    Object.assign(this, { size, ink });
    this.resize();
  }

  prepare() {
    this.pen.fillStyle = colour(this.ink ?? "ink");
  }

  paint({ begin_s, step_s, times, units }) {
    const height = Math.max(this.scale, this.height / this.size);
    for (let n = 0; n < times.length; n++) {
      const time_s = begin_s + times[n] * step_s;
      const from = this.column(time_s);
      const y = (1 - (units[n] + 1) / this.size) * this.height;
      this.fill(from, Math.max(from + Math.ceil(this.scale), this.column(time_s + step_s)), y, height);
    }
  }
}

/** Probabilities, one row of the picture for each label: items { begin_s, end_s, probabilities }, null for silence. */
export class Heat extends Ring {
  constructor(canvas, window_s, rows) {
    super(canvas, window_s);
    this.rows = rows;
    this.resize();
  }

  prepare() {
    this.pen.fillStyle = colour("accent");
  }

  paint({ begin_s, end_s, probabilities }) {
    if (!probabilities) return;
    const height = this.height / this.rows;
    probabilities.forEach((probability, row) => {
      this.pen.globalAlpha = probability;
      this.fill(this.column(begin_s), this.column(end_s), row * height, height - this.scale);
    });
    this.pen.globalAlpha = 1;
  }
}

/** Traces that a network draws: items { begin_s, end_s, step_s, rows }, each row with one number for each trace. */
export class Trace extends Ring {
  constructor(canvas, window_s) {
    super(canvas, window_s);
    this.most = 1;
    this.resize();
  }

  prepare() {
    this.pen.fillStyle = colour("accent");
    this.last = null; // where the traces are
  }

  add(item) {
    const most = item.rows.flat().reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    super.add(item);
    if (most <= this.most) return;
    this.most = 1.1 * most;
    this.resize();
  }

  paint({ begin_s, step_s, rows }) {
    const line = 1.5 * this.scale;
    rows.forEach((row, step) => {
      const [from, to] = [step, step + 1].map((at) => this.column(begin_s + at * step_s));
      const heights = row.map((value) => (0.5 - value / this.most / 2) * this.height);
      heights.forEach((y, n) => { // from where the trace was
        const before = this.last?.[n] ?? y;
        this.fill(from, to, Math.min(y, before) - line / 2, Math.abs(y - before) + line);
      });
      this.last = heights;
    });
  }
}
