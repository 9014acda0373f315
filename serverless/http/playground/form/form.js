// The form as a whole: what it holds can be taken, put back and sent.

import { VoiceChoices } from "../voices/choices.js";
import { forgive } from "./field_errors.js";
import { buildInput, namesIn } from "./request.js";
import { markStyle, showStyles } from "./scenes.js";
import { describeSettings, setValues, values } from "./settings.js";
import { TextEditor } from "./text_editor.js";

const $ = (id) => document.getElementById(id);

/** Tells "change" after every change. */
export class SpeechForm extends EventTarget {
  text = new TextEditor();
  choices = new VoiceChoices();
  defaults = {};
  #preset = "speech"; // what the controls that nobody has touched follow

  constructor() {
    super();
    showStyles();
    setValues({}, this.defaults);
    this.text.addEventListener("renamed", ({ detail }) => this.choices.rename(detail.from, detail.to));
    this.text.addEventListener("input", () => this.#changed());
    this.choices.addEventListener("change", () => this.#changed());
    $("form").oninput = (event) => {
      forgive(event.target);
      if (event.target.id === "preset") this.#follow(this.defaults, this.#preset);
      this.#changed();
    };
    $("reset").onclick = () => {
      this.#set({ speed: $("speed").value });
      this.#changed();
    };
  }

  get names() { return namesIn(this.text.snapshot()); }

  /** {text, scene, voices, settings}: the voices are those of the speakers that the text names now. */
  snapshot() {
    const text = this.text.snapshot();
    const names = namesIn(text);
    return { text, scene: $("scene").value, voices: this.choices.snapshot(names.length ? names : [""]), settings: values() };
  }

  restore({ text = {}, scene = "", voices = {}, settings = {} }) {
    $("scene").value = scene;
    this.#set(settings);
    this.choices.restore(voices);
    this.text.restore(text);
  }

  /** Text and scene of an example; voices and settings stay. */
  write({ text, scene = "" }) {
    $("scene").value = scene;
    this.text.restore(text);
  }

  /** The server's defaults: controls that nobody has touched follow them. */
  setDefaults(defaults) {
    const before = this.defaults;
    this.defaults = defaults;
    this.#follow(before, this.#preset);
    this.#changed();
  }

  /** Controls that nobody has touched since they followed `before` and its preset follow what holds now. */
  #follow(before, preset) {
    const now = values();
    setValues({ preset }, before);
    const old = { ...values(), preset: null };
    setValues(Object.fromEntries(Object.entries(now).filter(([name, value]) => value !== old[name])), this.defaults);
    this.#preset = now.preset;
  }

  setSeed(seed) {
    $("seed").value = seed;
    $("advanced").open = true;
    this.#changed();
  }

  input(snapshot = this.snapshot()) { return buildInput(snapshot, this.defaults); }

  #set(settings) {
    setValues(settings, this.defaults);
    this.#preset = values().preset;
  }

  #changed() {
    markStyle();
    describeSettings(this.defaults);
    this.dispatchEvent(new Event("change"));
  }
}
