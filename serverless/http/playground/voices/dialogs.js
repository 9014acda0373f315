// The dialogs that keep a voice on the server, or delete one.

import * as api from "../server/api.js";
import { forgive, forgiveAll, showAt } from "../form/field_errors.js";

const $ = (id) => document.getElementById(id);
const PLACES = {
  name: "new-name", description: "new-description", speaker_description: "new-description", seed: "new-seed",
  transcript: "new-transcript", ref_text: "new-transcript", consent: "new-consent",
};
const CONSENT = "The person who speaks has agreed, as the user of the playground says.";
const SHOWN = { clip: ["description", "transcript", "consent"], result: ["transcript"], design: ["description", "seed"] };
const TITLES = {
  clip: ["Save this voice", "The clip is stored on the server, and everyone who uses it can speak with this voice."],
  result: ["Save this voice", "The voice of this reading is stored on the server under a name, and speaks the same way from then on."],
  design: ["Describe a voice", "The model makes a voice from your words. It takes a moment when the voice is first heard, and stays the same from then on."],
};

/** Tells "saved" with {voice, warnings} of the server. */
export class VoiceDialog extends EventTarget {
  #kind = "design";
  #source = null;

  constructor() {
    super();
    $("voice-dialog").querySelector(".close").onclick = () => $("voice-dialog").close();
    $("voice-dialog").oninput = (event) => forgive(event.target);
    $("voice-form").onsubmit = (event) => {
      event.preventDefault();
      this.#save();
    };
  }

  /** kind: "clip" with {blob, transcript}, "result" with {codes, transcript}, or "design". */
  open(kind, source = null) {
    this.#kind = kind;
    this.#source = source;
    const [title, help] = TITLES[kind];
    $("voice-form").reset();
    forgiveAll();
    $("voice-dialog-title").textContent = title;
    $("voice-dialog-help").textContent = help;
    for (const name of ["description", "seed", "transcript", "consent"]) $(`new-${name}`).closest("label").hidden = !SHOWN[kind].includes(name);
    $("new-description-faint").textContent = kind === "design" ? "who speaks, and how" : "for the list";
    $("new-transcript").value = source?.transcript ?? "";
    $("voice-dialog-save").textContent = kind === "design" ? "Make this voice" : "Save this voice";
    $("voice-dialog-problem").hidden = true;
    $("voice-dialog").showModal();
    $("new-name").focus();
  }

  get #missing() {
    if (!$("new-name").value.trim()) return ["new-name", "Give the voice a name."];
    if (this.#kind === "design" && !$("new-description").value.trim()) return ["new-description", "Say in a few words who speaks, and how."];
    if (this.#kind === "clip" && !$("new-consent").checked) return ["new-consent", "A voice is saved only with the agreement of the person who speaks."];
    return null;
  }

  async #save() {
    const missing = this.#missing;
    if (missing) {
      showAt($(missing[0]), missing[1], $(missing[0]).closest("label"));
      return;
    }
    const button = $("voice-dialog-save");
    button.disabled = true;
    $("voice-dialog-problem").hidden = true;
    try {
      const saved = await this.#send();
      $("voice-dialog").close();
      this.dispatchEvent(new CustomEvent("saved", { detail: saved }));
    } catch (error) {
      this.#failed(error);
    } finally {
      button.disabled = false;
    }
  }

  #send() {
    const given = (name) => $(`new-${name}`).value.trim();
    const name = given("name").replace(/\s+/g, "_"); // the server's names have no spaces
    if (this.#kind === "clip") {
      return api.uploadVoice(this.#source.blob, { name, consent: CONSENT, ref_text: given("transcript"), speaker_description: given("description") });
    }
    if (this.#kind === "result") return api.addVoice({ name, audio_tokens: this.#source.codes, transcript: given("transcript") });
    const seed = given("seed");
    return api.addVoice({ name, description: given("description"), ...(seed && { seed: Number.isSafeInteger(Number(seed)) ? Number(seed) : seed }) });
  }

  #failed(error) {
    const words = [error.message, error.hint].filter(Boolean).join(" ");
    const control = PLACES[error.field] && $(PLACES[error.field]);
    if (control?.checkVisibility()) {
      showAt(control, words, control.closest("label"));
      return;
    }
    $("voice-dialog-problem").textContent = words;
    $("voice-dialog-problem").hidden = false;
  }
}

/** Asks before it deletes. Tells "deleted" with the voice. */
export class DeleteDialog extends EventTarget {
  #voice = null;

  constructor() {
    super();
    const dialog = $("delete-dialog");
    dialog.querySelector(".close").onclick = () => dialog.close();
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      this.#delete();
    };
  }

  open(voice) {
    this.#voice = voice;
    $("delete-title").textContent = `Delete ${voice.name}?`;
    $("delete-problem").hidden = true;
    $("delete-dialog").showModal();
    $("delete-dialog").querySelector(".close").focus();
  }

  async #delete() {
    $("delete-confirm").disabled = true;
    try {
      await api.deleteVoice(this.#voice.id).catch((error) => {
        if (error.status !== 404) throw error; // 404: it was deleted in another tab
      });
      $("delete-dialog").close();
      this.dispatchEvent(new CustomEvent("deleted", { detail: this.#voice }));
    } catch (error) {
      $("delete-problem").textContent = error.message;
      $("delete-problem").hidden = false;
    } finally {
      $("delete-confirm").disabled = false;
    }
  }
}
