// Plays samples while they still arrive. One growing buffer, a cursor, and a little audio scheduled ahead: live playback,
// pause, seek and replay are the same thing.

const AHEAD_SECONDS = 1.5; // scheduled ahead of the ear; background tabs wake only once a second
const START_SECONDS = 0.12; // buffered before live playback starts or goes on
const TICK_MS = 150;

export class Player extends EventTarget {
  #context = null;
  #rate = 24000;
  #samples = new Float32Array(1 << 16);
  #length = 0;
  #cursor = 0; // next sample to schedule
  #spans = []; // what is scheduled: {node, at (context seconds), from (sample), to}
  #timer = null;
  #complete = false;
  #wanted = false; // playing, or about to when the browser allows sound
  playing = false;

  get duration() { return this.#length / this.#rate; }
  get samples() { return this.#samples.subarray(0, this.#length); }

  /** Seconds into the audio that are heard now. */
  get position() {
    if (!this.playing || !this.#context) return this.#cursor / this.#rate;
    const now = this.#context.currentTime;
    let heard = this.#spans.length ? this.#spans[0].from : this.#cursor;
    for (const span of this.#spans) {
      if (now < span.at) break;
      heard = Math.min(span.from + (now - span.at) * this.#rate, span.to);
    }
    return heard / this.#rate;
  }

  /** Call it in a click: browsers start sound only for a person. */
  async unlock(rate = this.#rate) {
    if (!this.#context || this.#context.sampleRate !== rate) {
      await this.#context?.close();
      this.#context = new AudioContext({ sampleRate: rate, latencyHint: "playback" });
    }
    if (this.#context.state !== "running") await this.#context.resume();
  }

  reset(rate) {
    this.pause();
    this.#rate = rate;
    this.#length = 0;
    this.#cursor = 0;
    this.#complete = false;
    this.#changed();
  }

  append(samples) {
    if (this.#length + samples.length > this.#samples.length) {
      const grown = new Float32Array(Math.max(this.#samples.length * 2, this.#length + samples.length));
      grown.set(this.samples);
      this.#samples = grown;
    }
    this.#samples.set(samples, this.#length);
    this.#length += samples.length;
    if (this.playing) this.#pump();
    this.#changed();
  }

  finish() {
    this.#complete = true;
    if (this.playing) this.#pump();
    this.#changed();
  }

  async play() {
    this.#wanted = true;
    await this.unlock(this.#rate);
    if (!this.#wanted || this.playing) return; // paused meanwhile
    if (this.#complete && this.#cursor >= this.#length) this.#cursor = 0;
    this.playing = true;
    this.#timer = setInterval(() => this.#pump(), TICK_MS);
    this.#pump();
    this.#changed();
  }

  pause() {
    this.#wanted = false;
    if (!this.playing) return;
    this.#cursor = Math.round(this.position * this.#rate);
    this.#silence();
    this.playing = false;
    this.#changed();
  }

  seek(seconds) {
    const resume = this.playing;
    if (resume) this.#silence();
    this.#cursor = Math.max(0, Math.min(Math.round(seconds * this.#rate), this.#length));
    this.playing = false;
    if (resume && !(this.#complete && this.#cursor === this.#length)) this.play();
    else this.#changed();
  }

  /** Other samples at the same position, whether it plays or not: to compare two complete readings. */
  swap(samples) {
    const at = this.position;
    const resume = this.playing;
    if (resume) this.#silence();
    this.playing = false;
    this.#length = 0;
    this.#complete = true;
    this.append(samples);
    this.seek(at);
    if (resume && this.#cursor < this.#length) this.play();
  }

  #silence() {
    clearInterval(this.#timer);
    for (const span of this.#spans) span.node.stop();
    this.#spans = [];
  }

  #pump() {
    const context = this.#context;
    const now = context.currentTime;
    const last = this.#spans.at(-1);
    const scheduledUntil = last ? last.at + (last.to - last.from) / this.#rate : 0;
    this.#spans = this.#spans.filter((span) => span === last || span.at + (span.to - span.from) / this.#rate > now);
    const starved = scheduledUntil <= now;
    const waiting = this.#length - this.#cursor;
    if (waiting > 0 && (this.#complete || !starved || waiting >= START_SECONDS * this.#rate)) {
      // starts lie on whole samples, so that neighbours join without a click
      let at = starved ? Math.ceil((now + 0.04) * this.#rate) / this.#rate : scheduledUntil;
      while (this.#cursor < this.#length && at < now + AHEAD_SECONDS) {
        const to = Math.min(this.#length, this.#cursor + Math.round(0.5 * this.#rate));
        const buffer = context.createBuffer(1, to - this.#cursor, this.#rate);
        buffer.copyToChannel(this.#samples.subarray(this.#cursor, to), 0);
        const node = new AudioBufferSourceNode(context, { buffer });
        node.connect(context.destination);
        node.start(at);
        this.#spans.push({ node, at, from: this.#cursor, to });
        at = Math.round((at + buffer.length / this.#rate) * this.#rate) / this.#rate;
        this.#cursor = to;
      }
    } else if (starved && this.#complete && waiting === 0) {
      this.#silence();
      this.playing = false;
      this.#changed();
    }
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
