// The list of the last results.

import { clock } from "./clock.js";

const $ = (id) => document.getElementById(id);
const PLAY = "M8 5v14l11-7z";

/** Tells "play" and "again" with an item. */
export class RecentList extends EventTarget {
  #history;

  constructor(history) {
    super();
    this.#history = history;
    $("clear").onclick = async () => {
      await history.clear();
      this.draw();
    };
  }

  /** current: the id of the result that is shown. */
  draw(current = null) {
    const { items } = this.#history;
    $("recent").replaceChildren(...items.map((item) => this.#row(item, item.id === current)));
    $("recent-empty").hidden = items.length > 0;
    $("clear").hidden = items.length === 0;
  }

  #row(item, current) {
    const row = document.createElement("li");
    if (current) row.setAttribute("aria-current", "true");
    const about = document.createElement("div");
    about.className = "about";
    const detail = [clock(item.facts.duration_seconds ?? 0), item.suffix.toUpperCase(), `seed ${item.facts.seed ?? "unknown"}`,
      new Date(item.id).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })].join(" · ");
    about.append(
      Object.assign(document.createElement("p"), { textContent: item.text }),
      Object.assign(document.createElement("p"), { className: "faint", textContent: detail }),
    );
    const again = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Use again" });
    again.setAttribute("aria-label", `Use again: ${item.text.slice(0, 60)}`);
    again.onclick = () => this.#tell("again", item);
    row.append(this.#button("Play", PLAY, item), about, again);
    return row;
  }

  #button(label, path, item) {
    const made = Object.assign(document.createElement("button"), { type: "button", className: "icon-button", title: label });
    made.setAttribute("aria-label", `${label}: ${item.text.slice(0, 60)}`);
    made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`;
    made.onclick = () => this.#tell("play", item);
    return made;
  }

  #tell(name, item) { this.dispatchEvent(new CustomEvent(name, { detail: item })); }
}
