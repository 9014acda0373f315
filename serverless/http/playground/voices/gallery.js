// The cards of the voices: one is chosen, each can be heard, some can be deleted.

const $ = (id) => document.getElementById(id);
const FEW = 6; // cards that are shown before "All voices" is pressed
const MANY = 12; // from here on a search helps
const SOURCES = { shipped: "built in", folder: "of this server", uploaded: "uploaded", designed: "described", saved: "saved", model: "", clip: "" };
const OWN = ["uploaded", "designed", "saved"];
const ORDER = { model: 0, clip: 1, uploaded: 2, designed: 2, saved: 2, folder: 3, shipped: 4 };
const MODEL = { id: "default", name: "The model chooses", source: "model", description: "A voice that suits the text and the scene." };

/** A colour of each voice's own, in degrees: the same on every visit. */
const hueOf = (id) => [...id].reduce((hue, letter) => (hue * 31 + letter.codePointAt(0)) % 360, 7);

/** A person's own voices first, then the folder's, then those that ship. */
function ordered(voices) {
  return voices.filter((voice) => voice.id !== "default")
    .sort((a, b) => ORDER[a.source] - ORDER[b.source] || (OWN.includes(a.source) ? (b.created_at ?? 0) - (a.created_at ?? 0) : 0) || a.name.localeCompare(b.name));
}

/** Tells "choose" with a card's id, "sample" with {voice, button}, "delete" with a voice. */
export class Gallery extends EventTarget {
  #all = false;
  #voices = [];
  #clip = null;
  #chosen = "default";
  #drawn = "";

  constructor() {
    super();
    $("more-voices").onclick = () => {
      this.#all = !this.#all;
      if (!this.#all) $("voice-filter").value = "";
      this.#draw();
      $("more-voices").scrollIntoView({ block: "nearest" });
    };
    $("voice-filter").oninput = (event) => {
      event.stopPropagation(); // no part of the request
      this.#draw();
    };
    $("gallery").onchange = (event) => this.dispatchEvent(new CustomEvent("choose", { detail: event.target.value }));
  }

  /** voices: the server's. clip: {seconds} of the speaker's own, or null. chosen: a card's id. label: of the group. */
  show({ voices, clip, chosen, label }) {
    this.#voices = ordered(voices);
    this.#clip = clip && { id: "clip", name: "Your clip", source: "clip", description: `${clip.seconds.toFixed(1)} s of speech` };
    this.#chosen = chosen;
    $("gallery").setAttribute("aria-label", label);
    this.#draw();
  }

  get #shown() {
    const words = $("voice-filter").value.trim().toLowerCase();
    const cards = [MODEL, ...(this.#clip ? [this.#clip] : []), ...this.#voices];
    if (this.#all) return cards.filter((voice) => `${voice.name} ${voice.description ?? ""} ${SOURCES[voice.source]}`.toLowerCase().includes(words));
    const few = cards.slice(0, FEW);
    const chosen = cards.find((voice) => voice.id === this.#chosen);
    return !chosen || few.includes(chosen) ? few : [...few.slice(0, -1), chosen];
  }

  #draw() {
    const cards = this.#shown;
    const count = this.#voices.length + 1 + (this.#clip ? 1 : 0);
    const drawn = JSON.stringify(cards);
    if (drawn !== this.#drawn) {
      const focused = document.activeElement?.closest?.("#gallery .voice")?.dataset.id;
      $("gallery").replaceChildren(...cards.map((voice) => this.#card(voice)));
      if (focused) $("gallery").querySelector(`[data-id="${CSS.escape(focused)}"] input`)?.focus();
      this.#drawn = drawn;
    }
    for (const input of $("gallery").querySelectorAll("input")) input.checked = input.value === this.#chosen;
    $("no-voice").hidden = cards.length > 0;
    $("voice-filter-field").hidden = !this.#all || count < MANY;
    $("more-voices").hidden = count <= FEW;
    $("more-voices").textContent = this.#all ? "Fewer voices" : `All ${count} choices`;
    $("more-voices").setAttribute("aria-expanded", String(this.#all));
  }

  #card(voice) {
    const card = $("voice-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => card.querySelector(selector);
    const about = [voice.description, SOURCES[voice.source]].filter(Boolean).join(" · ");
    card.dataset.id = voice.id;
    card.dataset.source = voice.source;
    find("input").value = voice.id;
    find(".avatar").style.setProperty("--hue", hueOf(voice.id));
    find(".avatar").textContent = voice.source === "model" ? "✦" : [...voice.name][0];
    find(".voice-name").textContent = voice.name;
    find(".voice-about").textContent = about;
    find(".voice-about").title = voice.ready === false ? `${about}. It is made when it is first heard.` : about;
    const sample = find(".preview");
    if (voice.source !== "clip" && !voice.preview_url) sample.remove();
    sample.dataset.state = "idle";
    sample.title = `Play a sample of ${voice.name}`;
    sample.setAttribute("aria-label", sample.title);
    sample.onclick = () => this.dispatchEvent(new CustomEvent("sample", { detail: { voice, button: sample } }));
    const remove = find(".delete");
    if (!voice.deletable) remove.remove();
    remove.title = `Delete ${voice.name}`;
    remove.setAttribute("aria-label", remove.title);
    remove.onclick = () => this.dispatchEvent(new CustomEvent("delete", { detail: voice }));
    return card;
  }
}
