// The "Listen" card: waveform, transport, facts, problems.

import { Waveform } from "./waveform.js";

const $ = (id) => document.getElementById(id);

/** 63.25 -> "1:03.2" */
export function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

export class ResultView extends EventTarget {
  #player;
  #wave;
  #frame = null;
  #url = null;

  constructor(player) {
    super();
    this.#player = player;
    this.#wave = new Waveform($("canvas"), () => this.draw());
    player.addEventListener("change", () => this.#follow());
    $("play").onclick = () => (player.playing ? player.pause() : player.play());
    $("wave").onpointerdown = (event) => {
      this.#seekTo(event);
      $("wave").setPointerCapture(event.pointerId);
    };
    $("wave").onpointermove = (event) => event.buttons && this.#seekTo(event);
    $("wave").onkeydown = (event) => this.#key(event);
    $("download").onkeydown = (event) => { if (event.key === " ") { event.preventDefault(); $("download").click(); } };
  }

  start() {
    this.clearProblem();
    this.#wave.clear();
    this.#offer(null);
    $("facts").hidden = $("warnings").hidden = true;
    $("empty").textContent = "Waiting for the first sound…";
    $("empty").hidden = false;
    $("wave").dataset.waiting = "true";
    this.phase("Preparing");
    if (matchMedia("(max-width: 820px)").matches) $("listen").scrollIntoView({ block: "start" });
  }

  append(samples) {
    $("empty").hidden = true;
    $("wave").dataset.waiting = "false";
    this.#wave.append(samples);
    this.#player.append(samples);
  }

  /** Decodes a finished file into the player. */
  async load(blob) {
    const decoded = await new OfflineAudioContext(1, 1, 24000).decodeAudioData(await blob.arrayBuffer());
    this.#player.reset(24000);
    this.#wave.clear();
    this.append(decoded.getChannelData(0));
    this.#player.finish();
  }

  async show(item) {
    this.clearProblem();
    await this.load(item.blob);
    this.done(item);
  }

  done(item) {
    const { facts } = item;
    const timings = facts.timings ?? {};
    const shown = [
      ["Length", facts.duration_seconds, (value) => `${value.toFixed(2)} s`],
      ["First sound", timings.first_audio, (value) => `${value.toFixed(2)} s`],
      ["Total", timings.total, (value) => `${value.toFixed(2)} s`],
      ["Speed", timings.real_time_factor, (value) => `${(1 / value).toFixed(value > 1 ? 2 : 1)}× real time`],
      ["Tokens", facts.usage?.total_tokens, String],
      ["Ended", facts.finish_reason, (value) => (value === "length" ? "at the limit" : "by itself")],
    ].filter(([, value]) => value !== undefined && value !== null);
    $("facts").replaceChildren(...shown.map(([name, value, format]) => fact(name, format(value))));
    if (facts.seed !== undefined) $("facts").append(this.#seed(facts.seed));
    $("facts").hidden = shown.length === 0;
    $("warnings").replaceChildren(...(facts.warnings ?? []).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    $("warnings").hidden = !facts.warnings?.length;
    this.#offer(item);
    this.phase(`Finished, ${clock(this.#player.duration)}`);
  }

  stopped() {
    this.#player.finish();
    this.#quiet();
    this.phase("Stopped");
  }

  problem(text, hint) {
    $("problem").replaceChildren(text);
    if (hint) $("problem").append(Object.assign(document.createElement("small"), { textContent: hint }));
    $("problem").hidden = false;
    this.#player.finish();
    this.#quiet();
    this.phase("");
  }

  clearProblem() { $("problem").hidden = true; }
  phase(text) { $("phase").textContent = text; }
  draw() { this.#wave.draw(this.#player.duration ? this.#player.position / this.#player.duration : 0); }

  /** A button: the way to hear the same again is to keep its seed. */
  #seed(seed) {
    const keep = Object.assign(document.createElement("button"), { type: "button", className: "seed", textContent: seed });
    keep.title = "Keep this seed for the next request";
    keep.setAttribute("aria-label", `Keep seed ${seed} for the next request`);
    keep.onclick = () => this.dispatchEvent(new CustomEvent("seed", { detail: seed }));
    const pair = fact("Seed", "");
    pair.lastElementChild.append(keep);
    pair.className = "span";
    return pair;
  }

  #quiet() {
    $("wave").dataset.waiting = "false";
    $("empty").hidden = this.#player.duration > 0;
    $("empty").textContent = "Your speech appears here.";
  }

  #offer(item) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = item ? URL.createObjectURL(item.blob) : null;
    const link = $("download");
    link.setAttribute("aria-disabled", String(!item));
    if (item) {
      link.href = this.#url;
      link.download = `speech-${item.facts.seed ?? item.id}.${item.suffix}`;
    } else {
      link.removeAttribute("href");
    }
  }

  #seekTo(event) {
    const box = $("wave").getBoundingClientRect();
    const share = (event.clientX - box.left - 12) / (box.width - 24);
    this.#player.seek(Math.max(0, Math.min(1, share)) * this.#player.duration);
  }

  #key(event) {
    const player = this.#player;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
    if (step) player.seek(player.position + step);
    else if (event.key === "Home") player.seek(0);
    else if (event.key === "End") player.seek(player.duration);
    else if (event.key === " " && player.duration) player.playing ? player.pause() : player.play();
    else return;
    event.preventDefault();
  }

  /** Draws now and, while it plays, with every frame of the screen. */
  #follow() {
    if (this.#frame !== null) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      this.#transport();
      if (this.#player.playing) this.#follow();
    });
  }

  #transport() {
    const { position, duration, playing } = this.#player;
    this.draw();
    $("play").disabled = duration === 0;
    $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    $("listen").dataset.playing = String(playing);
    $("position").textContent = clock(position);
    $("duration").textContent = clock(duration);
    $("wave").setAttribute("aria-valuemax", duration.toFixed(1));
    $("wave").setAttribute("aria-valuenow", position.toFixed(1));
    if (duration) $("wave").setAttribute("aria-valuetext", `${position.toFixed(1)} of ${duration.toFixed(1)} seconds`);
  }
}

function fact(name, value) {
  const pair = document.createElement("div");
  pair.append(
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  );
  return pair;
}
