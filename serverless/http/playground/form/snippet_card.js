// The "Use it in code" card.

import { SNIPPETS, snippet } from "./snippets.js";

const $ = (id) => document.getElementById(id);
const NAMES = Object.keys(SNIPPETS);
const COPIED_MS = 1600;

export class SnippetCard {
  #shown = NAMES[0];
  #input;
  #withKey;

  /** input(): the job's input now. withKey(): whether the server asks for a key. */
  constructor(input, withKey) {
    this.#input = input;
    this.#withKey = withKey;
    for (const name of NAMES) {
      const tab = Object.assign(document.createElement("button"), { type: "button", id: `tab-${name}`, textContent: SNIPPETS[name].label });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "code");
      tab.onclick = () => this.#show(name);
      $("snippet-tabs").append(tab);
    }
    $("snippet-tabs").onkeydown = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      this.#show(NAMES.at((NAMES.indexOf(this.#shown) + step) % NAMES.length));
      $(`tab-${this.#shown}`).focus();
    };
    $("copy").onclick = () => this.#copy();
    this.#show(this.#shown);
  }

  refresh() {
    $("code").textContent = snippet(this.#shown, this.#input(), this.#at, { short: true });
    $("code-help").textContent = SNIPPETS[this.#shown].help(this.#at);
  }

  get #at() { return { base: new URL(".", location.href).href, withKey: this.#withKey() }; }

  #show(name) {
    this.#shown = name;
    for (const each of NAMES) {
      $(`tab-${each}`).setAttribute("aria-selected", String(each === name));
      $(`tab-${each}`).tabIndex = each === name ? 0 : -1;
    }
    $("code").setAttribute("aria-labelledby", `tab-${name}`);
    this.refresh();
  }

  async #copy() {
    const text = snippet(this.#shown, this.#input(), this.#at);
    try {
      await navigator.clipboard.writeText(text);
    } catch { // plain http on another machine: no clipboard interface
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, COPIED_MS);
  }
}
