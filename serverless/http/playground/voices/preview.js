// Plays one sample at a time. Its button shows whether it is fetched, heard or neither.

export class Previews {
  #audio = new Audio();
  #url = null;
  #button = null;
  #failed;
  onplay = () => {};

  /** failed(message, error): told when a sample cannot be played. */
  constructor(failed) {
    this.#failed = failed;
    this.#audio.onended = this.#audio.onerror = () => this.stop();
  }

  /** source(): the sample as a Blob. name: for the button's label. */
  async toggle(button, name, source) {
    const again = this.#button === button;
    this.stop();
    if (again) return;
    this.#button = button;
    this.#show("loading", `Stop the sample of ${name}`);
    button.dataset.sample = name;
    try {
      const blob = await source();
      if (this.#button !== button) return;
      this.onplay();
      this.#url = URL.createObjectURL(blob);
      this.#audio.src = this.#url;
      await this.#audio.play();
      if (this.#button === button) this.#show("playing", `Stop the sample of ${name}`);
    } catch (error) {
      if (this.#button !== button) return;
      this.stop();
      if (error.status === 404) this.#failed(`This server has no voice ${name} any more.`, error);
      else this.#failed(`The sample of ${name} cannot be played. ${error.status === undefined ? "" : error.message}`.trim(), error);
    }
  }

  stop() {
    this.#audio.pause();
    if (this.#url) {
      URL.revokeObjectURL(this.#url);
      this.#audio.removeAttribute("src");
      this.#url = null;
    }
    if (this.#button) this.#show("idle", `Play a sample of ${this.#button.dataset.sample}`);
    this.#button = null;
  }

  #show(state, label) {
    this.#button.dataset.state = state;
    this.#button.setAttribute("aria-label", label);
    this.#button.title = label;
    this.#button.setAttribute("aria-busy", String(state === "loading"));
  }
}
