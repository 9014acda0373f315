// The text, written plainly or as turns of named speakers. Both are the same script.

import { scriptOf, turnsOf, wordsIn } from "./script.js";
import { TurnsEditor } from "./turns.js";

const $ = (id) => document.getElementById(id);
const PAUSE = "[pause 1s]";

/** Tells "input" after every change, and "renamed" as the turns do. */
export class TextEditor extends EventTarget {
  #turns = new TurnsEditor();
  #mode = "plain";

  constructor() {
    super();
    this.#turns.turns = [];
    $("mode-plain").onclick = () => this.#switchTo("plain");
    $("mode-turns").onclick = () => this.#switchTo("turns");
    $("insert-pause").onclick = () => this.#insertPause();
    $("script").addEventListener("input", () => this.#changed());
    this.#turns.addEventListener("input", () => this.#changed());
    this.#turns.addEventListener("renamed", (event) => this.dispatchEvent(new CustomEvent("renamed", { detail: event.detail })));
  }

  get script() { return (this.#mode === "plain" ? $("script").value : scriptOf(this.#turns.turns)).trim(); }

  /** The control that an error of the text belongs to. */
  get control() { return this.#mode === "plain" ? $("script") : this.#turns.current; }

  snapshot() {
    return { mode: this.#mode, script: $("script").value, turns: this.#mode === "turns" ? this.#turns.turns : [] };
  }

  restore({ mode = "plain", script = "", turns = [] }) {
    $("script").value = script;
    if (mode === "turns") this.#turns.turns = turns;
    this.#show(mode === "turns" ? "turns" : "plain");
    this.#changed();
  }

  #switchTo(mode) {
    if (mode === this.#mode) return;
    if (mode === "turns") {
      const turns = turnsOf($("script").value);
      const first = turns.find((turn) => turn.speaker)?.speaker ?? "Alice";
      this.#turns.turns = turns.map(({ speaker, text }) => ({ speaker: speaker || first, text }));
    } else {
      $("script").value = scriptOf(this.#turns.turns);
    }
    this.#show(mode);
    this.#changed();
    if (mode === "turns") this.#turns.focus();
    else $("script").focus();
  }

  #show(mode) {
    this.#mode = mode;
    $("plain").hidden = mode !== "plain";
    $("turns-editor").hidden = mode !== "turns";
    for (const name of ["plain", "turns"]) $(`mode-${name}`).setAttribute("aria-pressed", String(name === mode));
    this.#turns.fit();
  }

  /** At the caret; the number is selected, so that typing changes it. */
  #insertPause() {
    const area = this.control;
    const { selectionStart: from, selectionEnd: to, value } = area;
    const before = from > 0 && !/\s$/.test(value.slice(0, from)) ? " " : "";
    const after = /^\s/.test(value.slice(to)) ? "" : " ";
    area.focus();
    area.setRangeText(before + PAUSE + after, from, to, "end");
    const number = from + before.length + "[pause ".length;
    area.setSelectionRange(number, number + 1);
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #changed() {
    const script = this.script;
    const words = wordsIn(script).length;
    $("script-count").textContent = `${words} ${words === 1 ? "word" : "words"} · ${script.length} characters`;
    this.dispatchEvent(new Event("input"));
  }
}
