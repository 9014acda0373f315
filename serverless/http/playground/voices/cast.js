// The speakers of a conversation, each with the card of their voice; pressing one shows the voices for them.

import { colourOf, shownName } from "../form/script.js";

const $ = (id) => document.getElementById(id);

/** speakers: names. active: one of them. voiceName(name): the words for the voice of a speaker. choose(name): called when pressed. */
export function showCast({ speakers, active, voiceName, choose }) {
  const box = $("cast");
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  box.hidden = speakers.length === 0;
  box.replaceChildren(...speakers.map((name) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "cast-member" });
    button.dataset.name = name;
    button.dataset.colour = colourOf(speakers, name);
    button.setAttribute("aria-pressed", String(name === active));
    const words = document.createElement("span");
    words.className = "voice-words";
    words.append(line("voice-name", shownName(name)), line("voice-about", voiceName(name)));
    button.append(Object.assign(document.createElement("span"), { className: "dot" }), words);
    button.onclick = () => choose(name);
    return button;
  }));
  if (focused !== null) [...box.children].find((each) => each.dataset.name === focused)?.focus();
}

const line = (className, text) => Object.assign(document.createElement("span"), { className, textContent: text });
