// The "Listen" card: waveform, transport, words, download and problems of the result that is shown.

import { Waveform } from "../audio/waveform.js";
import { clock } from "./clock.js";
import { hideFacts, showFacts } from "./facts.js";
import { SpokenText } from "./spoken_text.js";

const $ = (id) => document.getElementById(id);

/** Tells "seed" when the seed of a result is to be kept. */
export class ListenView extends EventTarget {
  #player;
  #wave;
  #words;
  #frame = null;
  #url = null;

  constructor(player) {
    super();
    this.#player = player;
    this.#wave = new Waveform($("canvas"), () => this.draw());
    this.#words = new SpokenText((seconds) => player.seek(seconds));
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

  /** A new result begins: nothing can be heard of it yet. */
  start(script, speakers) {
    this.clearProblem();
    this.#wave.clear();
    this.#words.start(script, speakers);
    this.#offer(null);
    hideFacts();
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

  piece(piece) { this.#words.piece(piece); }

  /** A complete result in place of what was there. stay: at the same position, playing on if it plays. */
  show(item, samples, { stay = false } = {}) {
    this.clearProblem();
    this.#words.start(item.text, item.speakers ?? []);
    this.#wave.clear();
    this.#wave.append(samples);
    $("empty").hidden = true;
    if (stay) this.#player.swap(samples);
    else {
      this.#player.reset(24000);
      this.#player.append(samples);
      this.#player.finish();
    }
    this.done(item);
  }

  done(item) {
    $("wave").dataset.waiting = "false";
    this.#words.done(item.facts.chunks, this.#player.duration);
    showFacts(item.facts, (seed) => this.dispatchEvent(new CustomEvent("seed", { detail: seed })));
    this.#offer(item.blob, `speech-${item.facts.seed ?? item.id}.${item.suffix}`);
    this.phase(`Finished, ${clock(this.#player.duration)}`);
    this.#follow();
  }

  /** partial: {blob, suffix} of what had arrived, or null. */
  stopped(partial) {
    this.#player.pause();
    this.#player.finish();
    this.#quiet();
    this.phase(`Stopped${this.#keep(partial)}`);
  }

  problem(text, hint) {
    $("problem").replaceChildren(text);
    if (hint) $("problem").append(Object.assign(document.createElement("small"), { textContent: hint }));
    $("problem").hidden = false;
  }

  /** The result that began will not be complete; what has arrived is heard to its end. */
  failed(partial) {
    this.#player.finish();
    this.#quiet();
    this.phase(partial ? `Broke off${this.#keep(partial)}` : "");
  }

  clearProblem() { $("problem").hidden = true; }
  phase(text) { $("phase").textContent = text; }
  draw() { this.#wave.draw(this.#player.duration ? this.#player.position / this.#player.duration : 0); }

  /** Offers a part to download; what is said about it. */
  #keep(partial) {
    if (!partial) return "";
    this.#offer(partial.blob, `speech-partial.${partial.suffix}`, "Download this part");
    return this.#player.duration ? `, ${clock(this.#player.duration)} kept` : "";
  }

  #quiet() {
    $("wave").dataset.waiting = "false";
    $("empty").hidden = this.#player.duration > 0;
    $("empty").textContent = "Your speech appears here.";
  }

  /** blob: what the link saves, or null for nothing yet. */
  #offer(blob, name, label = "Download") {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = blob && URL.createObjectURL(blob);
    const link = $("download");
    link.setAttribute("aria-disabled", String(!blob));
    $("download-label").textContent = label;
    if (blob) {
      link.href = this.#url;
      link.download = name;
    } else {
      link.removeAttribute("href");
    }
  }

  #seekTo(event) {
    const share = this.#wave.shareAt(event.clientX - $("wave").getBoundingClientRect().left);
    this.#player.seek(share * this.#player.duration);
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
    this.#words.light(position, duration);
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
