// What was being written, kept for the next visit: words and settings in localStorage, clips in IndexedDB.

import { kept } from "./kept.js";

const words = kept("local", "higgs-audio-draft");
const SETTLE_MS = 250;

/** form: has snapshot() and restore(snapshot); a snapshot's voices may hold clips with a blob each. */
export class Draft {
  #form;
  #database;
  #timer = null;
  #kept = new Map(); // speaker -> the clip that the database has

  constructor(form, database) {
    this.#form = form;
    this.#database = database;
    addEventListener("pagehide", () => this.#save());
  }

  /** Call it after every change; it is written when the person pauses. */
  changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#save(), SETTLE_MS);
  }

  async restore() {
    let snapshot;
    try {
      snapshot = JSON.parse(words.get());
    } catch {
      return;
    }
    if (!snapshot?.voices) return;
    const clips = new Map((await this.#database.all("clips")).map((entry) => [entry.id, entry.clip]));
    this.#kept = new Map(clips);
    for (const [speaker, voice] of Object.entries(snapshot.voices)) {
      if (voice.kind === "clip") voice.clip = clips.get(speaker);
      if (voice.kind === "clip" && !voice.clip) delete snapshot.voices[speaker];
    }
    try {
      this.#form.restore(snapshot);
    } catch {
      this.#form.restore({}); // another version of the page wrote it
    }
  }

  #save() {
    clearTimeout(this.#timer);
    const snapshot = this.#form.snapshot();
    const clips = new Map();
    for (const [speaker, voice] of Object.entries(snapshot.voices)) if (voice.clip) clips.set(speaker, voice.clip);
    const lasts = words.set(JSON.stringify(snapshot, (name, value) => (name === "clip" ? undefined : value)));
    if (!lasts) return; // clips without the words that they belong to would be of no use
    const put = [...clips].filter(([speaker, clip]) => this.#kept.get(speaker)?.blob !== clip.blob);
    const remove = [...this.#kept.keys()].filter((speaker) => !clips.has(speaker));
    if (!put.length && !remove.length) return;
    this.#kept = clips;
    this.#database.change("clips", { put: put.map(([id, clip]) => ({ id, clip })), remove });
  }
}
