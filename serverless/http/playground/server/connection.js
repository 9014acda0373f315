// Whether the server can be spoken to: asked again and again, at once when a request fails or the network changes.

import * as api from "./api.js";

const READY_MS = 5000;
const RETRY_MS = 1500;
const WORDS = { loading: "The model is loading", offline: "The server does not answer" };
const REASONS = {
  connecting: "Connecting to the server…",
  loading: "The model is still loading. This page goes on by itself when it is ready.",
  offline: "The server does not answer. This page tries again by itself.",
  network: "This device is offline. This page goes on by itself when the network is back.",
};

/** Tells "change" when the state changes, "locked" when the server asks for a key, "described" with new facts. */
export class Connection extends EventTarget {
  state = "connecting";
  model = null; // the entry of GET /v1/models
  voices = []; // the entries of GET /v1/audio/voices
  #failure = "";
  #described = false;
  #timer = null;
  #asking = null;

  /** Why no speech can be asked for now; null when it can. */
  get reason() {
    if (this.state === "ready") return null;
    if (this.state === "failed") return `The server cannot speak: ${this.#failure}`;
    return REASONS[this.state === "offline" && !navigator.onLine ? "network" : this.state];
  }

  get words() {
    if (this.state === "ready") return this.model ? `Ready · ${this.model.id.split("/").at(-1)}` : "Ready";
    return this.state === "failed" ? this.#failure : (WORDS[this.state] ?? "Connecting…");
  }

  start() {
    addEventListener("online", () => this.check());
    addEventListener("offline", () => this.check());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      if (this.model) this.#described = false; // another tab may have added or deleted voices
      this.check();
    });
    return this.check();
  }

  /** Asks now. Calls while one is under way wait for that one. */
  check() {
    this.#asking ??= this.#ask().finally(() => { this.#asking = null; });
    return this.#asking;
  }

  /** Model and voices anew, for example with another key. */
  async describe() {
    try {
      const [models, voices] = await Promise.all([api.models(), api.voices()]);
      this.model = models.data[0];
      this.voices = voices.voices;
      this.#described = true;
      this.dispatchEvent(new Event("described"));
    } catch (error) {
      if (error.status === 401) this.dispatchEvent(new CustomEvent("locked", { detail: error.message }));
      else if (error.status === 0) this.check();
    }
    this.dispatchEvent(new Event("change"));
  }

  async #ask() {
    clearTimeout(this.#timer);
    const answer = await api.ping();
    const changed = answer.state !== this.state || (answer.reason ?? "") !== this.#failure;
    if (answer.state === "ready" && this.state !== "ready") this.#described = false; // it may be another server now
    this.state = answer.state;
    this.#failure = answer.reason ?? "";
    this.#timer = setTimeout(() => this.check(), answer.state === "ready" ? READY_MS : RETRY_MS);
    if (changed) this.dispatchEvent(new Event("change"));
    if (answer.state === "ready" && !this.#described) {
      this.#described = true; // asked once for each start, whatever the answer; a new key asks again
      await this.describe();
    }
  }
}
