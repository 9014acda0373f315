// Which voice each speaker has: the model's choice, one of the server's voices, or a clip of the person's own.

/** Tells "change". A choice is {kind: "voice", id} or {kind: "clip", clip: {blob, base64, seconds}, transcript}; without
 * one the model chooses. The speaker of a text without names is "". */
export class VoiceChoices extends EventTarget {
  #choices = new Map();
  #active = "";

  get active() { return this.#active; }
  set active(name) {
    if (name === this.#active) return;
    this.#active = name;
    this.#changed();
  }

  of(name) { return this.#choices.get(name) ?? null; }

  /** The key of the choice among the cards: a voice's id, "default" or "clip". */
  keyOf(name) {
    const choice = this.of(name);
    return choice?.kind === "clip" ? "clip" : (choice?.id ?? "default");
  }

  set(name, choice) {
    if (choice) this.#choices.set(name, choice);
    else this.#choices.delete(name);
    this.#changed();
  }

  rename(from, to) {
    if (!this.#choices.has(from) || this.#choices.has(to)) return;
    this.#choices.set(to, this.#choices.get(from));
    this.#choices.delete(from);
    if (this.#active === from) this.#active = to;
    this.#changed();
  }

  /** Drops choices of voices that are not among `ids`; returns their ids. */
  keepOnly(ids) {
    const gone = [];
    for (const [name, choice] of this.#choices) {
      if (choice.kind !== "voice" || ids.has(choice.id)) continue;
      gone.push(choice.id);
      this.#choices.delete(name);
    }
    if (gone.length) this.#changed();
    return gone;
  }

  /** Of these speakers only: {name: choice}. */
  snapshot(names) {
    return Object.fromEntries(names.filter((name) => this.of(name)).map((name) => [name, { ...this.of(name) }]));
  }

  restore(choices) {
    this.#choices = new Map(Object.entries(choices).map(([name, choice]) => [name, { ...choice }]));
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
