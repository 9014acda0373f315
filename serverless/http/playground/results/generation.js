// One job: sent as a stream, its sound and words passed on as they arrive, its file put together at the end.

import * as api from "../server/api.js";
import { base64ToBytes, Pcm16Reader, wavFromPcm16 } from "../audio/wav.js";

const RATE = 24000;

/** Speaks one job's input. `stop()` ends it; what has arrived is in `partial`. */
export class Generation {
  #aborter = new AbortController();
  #parts = [];
  #live;
  #format;

  /** format: the file's. WAV is heard while it arrives, others when they are complete. */
  constructor(format) {
    this.#format = format;
    this.#live = format === "wav";
  }

  get live() { return this.#live; }
  stop() { this.#aborter.abort(); }

  /** The file of what has arrived so far, or null. */
  get partial() { return this.#parts.length ? this.#file({}) : null; }

  /** sound(samples), piece({text, start_seconds}), size(bytes) are called as items arrive. Returns {blob, facts, codes}.
   * Raises AbortError after stop(), and ApiError. */
  async run(input, { sound, piece, size }) {
    const sent = { input: { ...input, stream: true, return_audio_tokens: true, ...(this.#live && { response_format: "pcm" }) } };
    const reader = new Pcm16Reader();
    let last = {};
    let bytes = 0;
    for await (const item of api.generate(sent, this.#aborter.signal)) {
      if (item.text) piece({ text: item.text, start_seconds: item.start_seconds ?? 0 });
      if (item.audio_base64) {
        const part = base64ToBytes(item.audio_base64);
        this.#parts.push(part);
        bytes += part.length;
        if (this.#live) sound(reader.read(part));
        else size(bytes);
      }
      last = { ...last, ...item };
    }
    const { audio_base64, text, generated_audio_tokens: codes = null, ...facts } = last;
    return { blob: this.#file(facts), facts, codes };
  }

  #file({ sampling_rate = RATE, mime_type = `audio/${this.#format}` }) {
    return this.#live ? wavFromPcm16(this.#parts, sampling_rate) : new Blob(this.#parts, { type: mime_type });
  }
}
