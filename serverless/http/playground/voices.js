// One row per speaker that the text names: the model's choice, a voice of the library, or a clip.

import { readClip, Recording } from "./clips.js";

export class VoiceRow extends EventTarget {
  tag;
  #library;
  #clip = null;
  #recording = null;

  constructor(tag, library) {
    super();
    this.tag = tag;
    this.element = document.getElementById("voice-template").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.choice = find(".voice-choice");
    this.note = find(".voice-note");
    this.file = find(".file");
    this.recordButton = find(".record");
    this.transcript = find(".transcript");
    this.name(tag);
    this.setLibrary(library);

    this.choice.onchange = () => this.#changed();
    this.transcript.oninput = () => this.#changed();
    find(".upload").onclick = () => this.file.click();
    this.file.onchange = () => this.file.files[0] && this.#take(this.file.files[0]);
    this.recordButton.onclick = () => (this.#recording ? this.#recording.stop() : this.#record());
    find(".remove").onclick = () => this.#remove();
    this.element.ondragover = (event) => { event.preventDefault(); this.element.classList.add("dropping"); };
    this.element.ondragleave = () => this.element.classList.remove("dropping");
    this.element.ondrop = (event) => {
      event.preventDefault();
      this.element.classList.remove("dropping");
      if (event.dataTransfer.files[0]) this.#take(event.dataTransfer.files[0]);
    };
  }

  name(tag) {
    this.tag = tag;
    const spoken = tag ? `Speaker ${tag.slice(7)}` : "";
    this.element.querySelector("legend").textContent = spoken;
    this.choice.setAttribute("aria-label", spoken ? `Voice of ${spoken}` : "Voice");
  }

  setLibrary(library) {
    this.#library = library;
    this.#fillChoice(this.choice.value);
  }

  /** What the request says about this speaker; null leaves the voice to the model. */
  get value() {
    if (this.choice.value === "clip" && this.#clip) {
      const words = this.transcript.value.trim();
      return { audio_base64: this.#clip.base64, ...(words && { transcript: words }) };
    }
    const voice = this.choice.value.startsWith("voice:") ? this.choice.value.slice(6) : null;
    return voice ? { voice } : null;
  }

  #fillChoice(selected) {
    const options = [new Option("The model chooses", "default")];
    for (const name of this.#library) options.push(new Option(name, `voice:${name}`));
    if (this.#clip) options.push(new Option(`Your clip, ${this.#clip.seconds.toFixed(1)} s`, "clip"));
    this.choice.replaceChildren(...options);
    this.choice.value = options.some((option) => option.value === selected) ? selected : "default";
  }

  async #take(source) {
    this.#say("Reading the clip…");
    try {
      this.#clip = await readClip(source);
    } catch (error) {
      this.#say(error.message, true);
      return;
    } finally {
      this.file.value = "";
    }
    const audio = this.element.querySelector("audio");
    URL.revokeObjectURL(audio.src);
    audio.src = URL.createObjectURL(this.#clip.blob);
    this.element.querySelector(".clip").hidden = false;
    this.#fillChoice("clip");
    this.#say("");
    this.#changed();
  }

  async #record() {
    const label = this.element.querySelector(".record-label");
    try {
      this.#recording = await Recording.start((seconds) => { label.textContent = `Stop, ${seconds.toFixed(0)} s`; });
    } catch (error) {
      this.#say(error.message, true);
      return;
    }
    label.textContent = "Stop, 0 s";
    this.recordButton.setAttribute("aria-pressed", "true");
    this.#say("Recording. Speak for 3 to 30 seconds.");
    const blob = await this.#recording.done;
    this.#recording = null;
    label.textContent = "Record";
    this.recordButton.setAttribute("aria-pressed", "false");
    await this.#take(blob);
  }

  #remove() {
    this.#clip = null;
    this.transcript.value = "";
    this.element.querySelector(".clip").hidden = true;
    this.#fillChoice("default");
    this.choice.focus();
    this.#changed();
  }

  #say(text, bad = false) {
    this.note.textContent = text;
    this.note.hidden = !text;
    this.note.dataset.bad = String(bad);
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}
