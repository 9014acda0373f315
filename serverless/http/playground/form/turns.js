// A conversation as rows: who speaks, in a colour of their own, and what.

import { colourOf } from "./script.js";

const $ = (id) => document.getElementById(id);

/** Tells "input" after every change and "renamed" with {from, to} when a speaker has a new name everywhere. */
export class TurnsEditor extends EventTarget {
  #rows = [];

  constructor() {
    super();
    let width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width !== width) this.fit(); // a phone that is turned breaks its lines elsewhere
      width = contentRect.width;
    }).observe($("turns"));
    $("add-turn").onclick = () => this.#add(this.#rows.length);
  }

  get turns() {
    return this.#rows.map((row) => ({ speaker: row.name.value.trim(), text: row.text.value }));
  }

  set turns(turns) {
    this.#rows = [];
    for (const turn of turns.length ? turns : [{ speaker: "Alice", text: "" }]) this.#rows.push(this.#row(turn));
    this.#draw();
  }

  get names() { return [...new Set(this.turns.map((turn) => turn.speaker).filter(Boolean))]; }

  /** The row whose words hold the caret, else the last one. */
  get current() {
    return (this.#rows.find((row) => row.element.contains(document.activeElement)) ?? this.#rows.at(-1)).text;
  }

  focus() { this.#rows[0]?.text.focus(); }

  /** Sets names, colours and what is said about each row. */
  paint() {
    const names = this.names;
    const known = [...$("speaker-names").options].map((option) => option.value);
    if (known.join("\n") !== names.join("\n")) $("speaker-names").replaceChildren(...names.map((name) => new Option(name)));
    this.#rows.forEach((row, i) => {
      const name = row.name.value.trim();
      const painted = `${i} of ${this.#rows.length} ${colourOf(names, name)} ${name}`;
      if (painted === row.painted) return; // a long conversation is not painted anew for every letter
      row.painted = painted;
      row.element.dataset.colour = name ? colourOf(names, name) : "none";
      row.name.setAttribute("aria-label", `Speaker of turn ${i + 1}`);
      row.text.setAttribute("aria-label", `Turn ${i + 1}${name ? `, ${name}` : ""}`);
      row.text.placeholder = name ? `What does ${name} say?` : "Give the speaker a name first.";
      for (const [button, words] of [[row.up, "Move up"], [row.down, "Move down"], [row.drop, "Remove"]]) {
        button.setAttribute("aria-label", `${words} turn ${i + 1}`);
        button.title = words;
      }
      row.up.disabled = i === 0;
      row.down.disabled = i === this.#rows.length - 1;
      row.drop.disabled = this.#rows.length === 1;
    });
  }

  /** Makes every row as tall as its words: for when the rows are shown, or are narrower. */
  fit() { fit(this.#rows.map((row) => row.text)); }

  #row({ speaker, text }) {
    const element = $("turn-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => element.querySelector(selector);
    const row = { element, name: find(".turn-name"), text: find(".turn-text"), up: find(".up"), down: find(".down"), drop: find(".drop"), was: speaker };
    row.name.value = speaker;
    row.text.value = text;
    row.name.oninput = () => {
      row.name.value = row.name.value.replace(/[[\]]/g, "");
      this.#changed();
    };
    row.name.onchange = () => this.#renamed(row);
    row.text.oninput = () => {
      fit([row.text]);
      this.#changed();
    };
    row.up.onclick = () => this.#move(row, -1, row.up);
    row.down.onclick = () => this.#move(row, 1, row.down);
    row.drop.onclick = () => this.#remove(row);
    element.onkeydown = (event) => this.#key(event, row);
    return row;
  }

  #key(event, row) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const plain = !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing;
    if (event.altKey && step) this.#move(row, step, event.target);
    else if (event.key === "Enter" && plain && event.target === row.text) this.#add(this.#rows.indexOf(row) + 1);
    else if (event.key === "Enter" && plain && event.target === row.name) row.text.focus();
    else if (event.key === "Backspace" && event.target === row.text && !row.text.value && this.#rows.length > 1) this.#remove(row);
    else return;
    event.preventDefault();
  }

  /** A new turn is the other speaker's: who spoke before the one above, or a new name. */
  #add(at) {
    const above = this.#rows[at - 1]?.name.value.trim();
    const other = this.turns.slice(0, at).map((turn) => turn.speaker).findLast((name) => name && name !== above);
    const fresh = ["Alice", "Ben", "Carla", "David"].find((name) => !this.names.includes(name));
    const row = this.#row({ speaker: other ?? fresh ?? above ?? "", text: "" });
    this.#rows.splice(at, 0, row);
    this.#draw();
    row.text.focus();
    this.#changed();
  }

  #remove(row) {
    const at = this.#rows.indexOf(row);
    if (this.#rows.length === 1) return;
    this.#rows.splice(at, 1);
    this.#draw();
    this.#rows[Math.max(0, at - 1)].text.focus();
    $("turn-said").textContent = `Turn ${at + 1} removed.`;
    this.#changed();
  }

  #move(row, step, focused) {
    const at = this.#rows.indexOf(row);
    const to = at + step;
    if (to < 0 || to >= this.#rows.length) return;
    this.#rows.splice(at, 1);
    this.#rows.splice(to, 0, row);
    this.#draw();
    (focused.disabled ? row.text : focused).focus();
    $("turn-said").textContent = `Turn ${at + 1} is now turn ${to + 1}.`;
    this.#changed();
  }

  #renamed(row) {
    const from = row.was;
    const to = row.name.value.trim();
    row.was = to;
    if (from && to && from !== to && !this.names.includes(from)) {
      this.dispatchEvent(new CustomEvent("renamed", { detail: { from, to } }));
    }
  }

  #draw() {
    $("turns").replaceChildren(...this.#rows.map((row) => row.element));
    this.paint();
    this.fit();
  }

  #changed() {
    this.paint();
    this.dispatchEvent(new Event("input"));
  }
}

/** As tall as their words. All are measured before any is set, so that the page is laid out once. */
function fit(areas) {
  if (!$("turns").checkVisibility()) return;
  for (const area of areas) area.style.height = "auto";
  const heights = areas.map((area) => area.scrollHeight + 2);
  areas.forEach((area, i) => { area.style.height = `${heights[i]}px`; });
}
