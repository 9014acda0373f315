// A clip of one's own: chosen, dropped or recorded, with the words that are spoken in it.

import { readClip, Recording } from "../audio/clips.js";

const $ = (id) => document.getElementById(id);

/** Tells "clip" with what was read, "transcript" with its words, "remove" and "save", and "say" with {text, bad}. */
export class ClipPanel extends EventTarget {
  #recording = null;

  constructor() {
    super();
    $("upload").onclick = () => $("clip-file").click();
    $("clip-file").onchange = () => $("clip-file").files[0] && this.#take($("clip-file").files[0]);
    $("record").onclick = () => (this.#recording ? this.#recording.stop() : this.#record());
    $("remove-clip").onclick = () => this.#tell("remove");
    $("save-clip").onclick = () => this.#tell("save");
    $("transcript").oninput = () => this.#tell("transcript", $("transcript").value);
    const card = $("voice-card");
    card.ondragover = (event) => {
      event.preventDefault();
      card.classList.add("dropping");
    };
    card.ondragleave = () => card.classList.remove("dropping");
    card.ondrop = (event) => {
      event.preventDefault();
      card.classList.remove("dropping");
      if (event.dataTransfer.files[0]) this.#take(event.dataTransfer.files[0]);
    };
  }

  /** choice: the active speaker's. lasting: whether this browser keeps clips. */
  show(choice, lasting) {
    const clip = choice?.kind === "clip";
    $("clip").hidden = !clip;
    if (!clip) return;
    if ($("transcript").value !== choice.transcript) $("transcript").value = choice.transcript;
    $("clip-kept").textContent = lasting
      ? "Kept in this browser with your draft. Save it to use it by name, from everywhere."
      : "This browser does not keep clips: it is gone when the page is closed. Save it to keep it.";
  }

  async #take(source) {
    this.#say("Reading the clip…");
    try {
      const clip = await readClip(source);
      this.#say("");
      this.#tell("clip", clip);
    } catch (error) {
      this.#say(error.message, true);
    } finally {
      $("clip-file").value = "";
    }
  }

  async #record() {
    const label = $("record-label");
    try {
      this.#recording = await Recording.start((seconds) => { label.textContent = `Stop, ${seconds.toFixed(0)} s`; });
    } catch (error) {
      this.#say(error.message, true);
      return;
    }
    label.textContent = "Stop, 0 s";
    $("record").setAttribute("aria-pressed", "true");
    this.#say("Recording. Speak for 3 to 30 seconds.");
    const blob = await this.#recording.done;
    this.#recording = null;
    label.textContent = "Record";
    $("record").setAttribute("aria-pressed", "false");
    await this.#take(blob);
  }

  #say(text, bad = false) { this.#tell("say", { text, bad }); }
  #tell(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }
}
