// The "Voice" card: cast, gallery, clip and dialogs around the choices.

import * as api from "../server/api.js";
import { shownName } from "../form/script.js";
import { showCast } from "./cast.js";
import { ClipPanel } from "./clip_panel.js";
import { DeleteDialog, VoiceDialog } from "./dialogs.js";
import { Gallery } from "./gallery.js";
import { Previews } from "./preview.js";

const $ = (id) => document.getElementById(id);

/** connection: has the server's voices. choices: VoiceChoices. database: says whether clips last. */
export class VoicePanel {
  #connection;
  #choices;
  #database;
  #speakers = [];
  #clips = new Map(); // speaker -> their clip, also while another voice is chosen
  #gallery = new Gallery();
  #clip = new ClipPanel();
  #dialog = new VoiceDialog();
  #deleting = new DeleteDialog();
  #gone = []; // ids of chosen voices that the server has no more
  previews = new Previews((message, error) => {
    this.say(message, true);
    if (error.status === 404) this.#connection.describe(); // deleted in another tab
  });

  constructor(connection, choices, database) {
    this.#connection = connection;
    this.#choices = choices;
    this.#database = database;
    choices.addEventListener("change", () => this.#show());
    connection.addEventListener("described", () => this.#described());
    $("describe").onclick = () => this.#dialog.open("design");
    this.#gallery.addEventListener("choose", (event) => this.#choose(event.detail));
    this.#gallery.addEventListener("sample", (event) => this.#sample(event.detail));
    this.#gallery.addEventListener("delete", (event) => this.#deleting.open(event.detail));
    this.#dialog.addEventListener("saved", (event) => this.#saved(event.detail));
    this.#deleting.addEventListener("deleted", (event) => this.#deleted(event.detail));
    this.#clip.addEventListener("say", (event) => this.say(event.detail.text, event.detail.bad));
    this.#clip.addEventListener("clip", (event) => choices.set(choices.active, { kind: "clip", clip: event.detail, transcript: "" }));
    this.#clip.addEventListener("transcript", (event) => choices.set(choices.active, { ...this.#chosen, transcript: event.detail }));
    this.#clip.addEventListener("remove", () => this.#remove());
    this.#clip.addEventListener("save", () => this.#dialog.open("clip", { blob: this.#chosen.clip.blob, transcript: this.#chosen.transcript }));
  }

  /** The names that the text has now. */
  set speakers(names) {
    this.#speakers = names;
    const active = this.#choices.active;
    if (names.length ? names.includes(active) : active === "") this.#show();
    else this.#choices.active = names[0] ?? "";
  }

  /** Asks for a name for the voice of a result. */
  saveResult({ codes, transcript }) { this.#dialog.open("result", { codes, transcript }); }

  /** Leads to what is said about chosen voices that are gone. Returns whether there are any. */
  showGone() {
    if (!this.#gone.length) return false;
    $("gallery").querySelector("input:checked")?.focus({ preventScroll: true });
    $("voice-note").scrollIntoView({ block: "center" });
    return true;
  }

  say(text, bad = false) {
    $("voice-note").textContent = text;
    $("voice-note").hidden = !text;
    $("voice-note").dataset.bad = String(bad);
  }

  get #chosen() { return this.#choices.of(this.#choices.active); }

  #nameOf(id) { return this.#connection.voices.find((voice) => voice.id === id)?.name ?? id; }

  #show() {
    const { active } = this.#choices;
    if (this.#chosen?.kind === "clip") this.#clips.set(active, this.#chosen);
    showCast({
      speakers: this.#speakers,
      active,
      voiceName: (name) => ({ default: "The model chooses", clip: "Your clip" })[this.#choices.keyOf(name)] ?? this.#nameOf(this.#choices.keyOf(name)),
      choose: (name) => { this.#choices.active = name; },
    });
    this.#gallery.show({
      voices: this.#connection.voices,
      clip: this.#clips.get(active)?.clip ?? null,
      chosen: this.#choices.keyOf(active),
      label: active ? `Voice of ${shownName(active)}` : "Voice",
    });
    this.#clip.show(this.#chosen, this.#database.lasting);
  }

  #described() {
    this.#gone = this.#choices.keepOnly(new Set(this.#connection.voices.map((voice) => voice.id)));
    if (this.#gone.length) this.say(`This server has no voice ${this.#gone.join(", ")} any more; the model chooses instead.`, true);
    this.#show();
  }

  #choose(id) {
    const { active } = this.#choices;
    this.say("");
    if (id === "clip") this.#choices.set(active, this.#clips.get(active));
    else this.#choices.set(active, id === "default" ? null : { kind: "voice", id });
  }

  #sample({ voice, button }) {
    this.say("");
    const clip = this.#clips.get(this.#choices.active)?.clip;
    this.previews.toggle(button, voice.name, async () => (voice.source === "clip" ? clip.blob : api.preview(voice.id)));
  }

  async #saved({ voice, warnings = [] }) {
    await this.#connection.describe();
    this.#choices.set(this.#choices.active, { kind: "voice", id: voice.id });
    this.say([`${voice.name} is saved.`, ...warnings].join(" "));
    $("gallery").querySelector("input:checked")?.focus();
  }

  async #deleted(voice) {
    await this.#connection.describe();
    this.say(`${voice.name} is deleted.`);
    $("gallery").querySelector("input:checked")?.focus();
  }

  #remove() {
    this.previews.stop();
    this.#clips.delete(this.#choices.active);
    this.#choices.set(this.#choices.active, null);
    $("gallery").querySelector("input:checked")?.focus();
  }
}
