// Two readings of one request side by side: switch between them at the same position, and keep one.

import { Waveform } from "../audio/waveform.js";
import { clock } from "./clock.js";

const $ = (id) => document.getElementById(id);
const LETTERS = ["A", "B"];

/** Tells "listen" and "keep" with {item, samples, other}. */
export class Comparison extends EventTarget {
  #takes = []; // {item, samples, button, wave}
  #heard = 0;

  /** Two results with their samples; `heard` of them is the one that is shown now. */
  show(takes, heard) {
    this.#heard = heard;
    this.#takes = takes.map((take, i) => this.#take(take, LETTERS[i]));
    $("compare").replaceChildren(...this.#takes.map((take) => take.element));
    $("compare").hidden = false;
    this.#takes.forEach((take) => take.wave.draw(0));
    this.#mark();
  }

  close() {
    this.#takes = [];
    $("compare").replaceChildren();
    $("compare").hidden = true;
  }

  #take({ item, samples }, letter) {
    const element = document.createElement("div");
    element.className = "take";
    const seconds = clock(samples.length / 24000);
    const seed = `seed ${item.facts.seed}`;
    const about = `${seconds}, ${seed}`;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "take-listen" });
    const title = Object.assign(document.createElement("b"), { textContent: letter });
    const detail = Object.assign(document.createElement("span"), { className: "faint", textContent: seconds });
    const from = Object.assign(document.createElement("span"), { className: "faint take-seed", textContent: seed });
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    button.append(title, detail, from, canvas);
    button.setAttribute("aria-label", `Listen to ${letter}, ${about}`);
    const keep = Object.assign(document.createElement("button"), { type: "button", className: "button slim", textContent: `Keep ${letter}` });
    const wave = new Waveform(canvas, () => wave.draw(0));
    wave.append(samples);
    const take = { element, item, samples, button, wave };
    button.onclick = () => {
      this.#heard = this.#takes.indexOf(take);
      this.#mark();
      this.#tell("listen", take);
    };
    keep.onclick = () => this.#tell("keep", take);
    element.append(button, keep);
    return take;
  }

  #mark() {
    this.#takes.forEach(({ button, element }, i) => {
      button.setAttribute("aria-pressed", String(i === this.#heard));
      element.dataset.heard = String(i === this.#heard);
    });
  }

  #tell(name, { item, samples }) {
    const other = this.#takes.find((take) => take.item !== item).item;
    this.dispatchEvent(new CustomEvent(name, { detail: { item, samples, other } }));
  }
}
