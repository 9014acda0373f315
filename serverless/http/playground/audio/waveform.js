// Draws the loudness of a growing signal as rounded bars, the heard part in the accent colour.

const BLOCK = 240; // samples behind one peak: 10 ms at 24 kHz
const BAR = 3;
const GAP = 2;
const insetOf = (width) => Math.min(12, 0.02 * width); // free space before the first bar

export class Waveform {
  #peaks = [];
  #partial = 0;
  #inPartial = 0;
  #canvas;

  constructor(canvas, redraw) {
    this.#canvas = canvas;
    new ResizeObserver(redraw).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  clear() {
    this.#peaks = [];
    this.#partial = this.#inPartial = 0;
  }

  append(samples) {
    for (const sample of samples) {
      this.#partial = Math.max(this.#partial, Math.abs(sample));
      if (++this.#inPartial === BLOCK) {
        this.#peaks.push(this.#partial);
        this.#partial = this.#inPartial = 0;
      }
    }
  }

  /** The share of the whole at `x` pixels from the left edge, 0 to 1. */
  shareAt(x) {
    const width = this.#canvas.clientWidth;
    const inset = insetOf(width);
    return Math.max(0, Math.min(1, (x - inset) / (width - 2 * inset)));
  }

  /** share: heard part of the whole, 0 to 1. */
  draw(share) {
    const scale = devicePixelRatio || 1;
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    if (this.#canvas.width !== Math.round(width * scale) || this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.#peaks.length) return;

    const probe = (name) => {
      this.#canvas.style.color = `var(${name})`;
      return getComputedStyle(this.#canvas).color;
    };
    const accent = probe("--accent");
    const rest = probe("--wave-rest");
    const inset = insetOf(width);
    const bars = Math.max(1, Math.floor((width - 2 * inset) / (BAR + GAP)));
    const loudest = Math.max(0.05, this.#peaks.reduce((a, b) => Math.max(a, b), 0));
    for (let i = 0; i < bars; i++) {
      const from = Math.floor((i * this.#peaks.length) / bars);
      const to = Math.max(from + 1, Math.floor(((i + 1) * this.#peaks.length) / bars));
      let peak = 0;
      for (let k = from; k < to && k < this.#peaks.length; k++) peak = Math.max(peak, this.#peaks[k]);
      const tall = Math.max(BAR, (peak / loudest) * 0.82 * height);
      pen.fillStyle = (i + 0.5) / bars <= share ? accent : rest;
      pen.beginPath();
      pen.roundRect(inset + i * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
      pen.fill();
    }
  }
}
