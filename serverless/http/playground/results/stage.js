// Everything that is heard: a generation from its start to its end, results from the list, and comparisons of two.

import { samplesOf } from "../audio/decode.js";
import { Player } from "../audio/player.js";
import { namesIn } from "../form/request.js";
import { turnsOf } from "../form/script.js";
import { clock } from "./clock.js";
import { Comparison } from "./compare.js";
import { Generation } from "./generation.js";
import { ListenView } from "./listen.js";
import { RecentList } from "./recent.js";

const $ = (id) => document.getElementById(id);
const RATE = 24000;
const UNPLAYABLE = "This browser cannot play files of this kind; the download is complete.";
const LONGEST_VOICE_SECONDS = 30; // of a reading whose voice can be saved
const spokenWords = ({ facts, speakers }) =>
  facts.chunks.flatMap((chunk) => turnsOf(chunk.text, speakers)).map((turn) => turn.text).join(" ");
const inAnotherReading = ({ seed, ...input }) => input;

/** Tells "busy" when a generation begins or ends, "failed" with its error, "again" with a form's snapshot, "seed" with a
 * seed to keep and "save" with {codes, transcript} of the shown result. */
export class Stage extends EventTarget {
  #player = new Player();
  #view = new ListenView(this.#player);
  #compare = new Comparison();
  #history;
  #recent;
  #running = null;
  #shown = null; // the complete result that is heard
  #input; // form's snapshot -> job input

  constructor(history, input) {
    super();
    this.#history = history;
    this.#input = input;
    this.#recent = new RecentList(history);
    this.#recent.addEventListener("play", ({ detail }) => this.#replay(detail));
    this.#recent.addEventListener("again", ({ detail }) => this.#tell("again", detail.form ?? { text: { script: detail.text } }));
    this.#view.addEventListener("seed", ({ detail }) => this.#tell("seed", detail));
    this.#compare.addEventListener("listen", ({ detail: { item, samples } }) => this.#show(item, samples, { stay: true }));
    this.#compare.addEventListener("keep", ({ detail }) => this.#keep(detail));
    $("compare-button").onclick = () => this.#another();
    $("save-result").onclick = () => this.#tell("save", { codes: this.#shown.codes, transcript: spokenWords(this.#shown) });
  }

  get busy() { return this.#running !== null; }

  /** What is heard changes its colours with the theme. */
  redraw() { this.#view.draw(); }
  drawRecent() { this.#recent.draw(); }
  pause() { this.#player.pause(); }
  problem(message, hint) { this.#view.problem(message, hint); }
  clearProblem() { this.#view.clearProblem(); }

  /** Silence at once; what has arrived stays. */
  stop() {
    this.#player.pause();
    this.#running?.stop();
  }

  /** form: the snapshot that is spoken. Returns the result, or null after a stop or a failure. */
  async speak(form, { seeded = true } = {}) {
    const sent = this.#input(form);
    const input = seeded ? sent : inAnotherReading(sent);
    const suffix = input.response_format ?? "wav";
    const generation = new Generation(suffix);
    this.#running = generation;
    this.#compare.close();
    this.#setShown(null);
    this.#tell("busy");
    this.#view.start(input.script, namesIn(form.text));
    this.#player.reset(RATE);
    this.#player.unlock(RATE).catch(() => {}); // in the click; the request does not wait for the sound
    try {
      const made = await this.#receive(generation, input);
      const item = { id: Date.now(), text: input.script, speakers: namesIn(form.text), suffix, form, ...made };
      this.#view.done(item);
      this.#setShown(item);
      this.#history.add(item); // the next one need not wait for the disk
      this.#recent.draw(item.id);
      return item;
    } catch (error) {
      const partial = await this.#partOf(generation, suffix);
      if (error.name === "AbortError") this.#view.stopped(partial);
      else {
        this.#view.failed(partial);
        this.#tell("failed", error);
      }
      return null;
    } finally {
      this.#running = null;
      this.#tell("busy");
    }
  }

  async #receive(generation, input) {
    const made = await generation.run(input, {
      sound: (samples) => {
        const first = this.#player.duration === 0;
        this.#view.append(samples);
        if (first) this.#player.play();
        this.#view.phase(`${clock(this.#player.duration)} so far`);
      },
      piece: (piece) => this.#view.piece(piece),
      size: (bytes) => this.#view.phase(`${Math.ceil(bytes / 1024)} kB so far`),
    });
    if (!generation.live) await this.#hear(made.blob);
    this.#player.finish();
    return made;
  }

  /** Plays a file that is complete, if this browser can. */
  async #hear(blob) {
    try {
      this.#view.append(await samplesOf(blob));
    } catch {
      this.#view.problem(UNPLAYABLE);
      return;
    }
    this.#player.finish();
    this.#player.play();
  }

  /** What has arrived of a generation that ended early, shown as far as this browser reads it: {blob, suffix}, or null. */
  async #partOf(generation, suffix) {
    const blob = generation.partial;
    if (!blob) return null;
    if (!generation.live) await samplesOf(blob).then((samples) => this.#view.append(samples), () => {});
    return { blob, suffix };
  }

  /** The same request with another seed, beside what is shown. */
  async #another() {
    const first = this.#shown;
    if (this.busy || !first) return;
    const second = await this.speak(first.form, { seeded: false });
    if (!second) return;
    const takes = await Promise.all([first, second].map(async (item) => ({ item, samples: await samplesOf(item.blob) })));
    if (this.#shown === second) this.#compare.show(takes, 1);
  }

  async #keep({ item, samples, other }) {
    this.#compare.close();
    if (this.#shown !== item) this.#show(item, samples, { stay: true });
    await this.#history.remove(other.id);
    this.#recent.draw(item.id);
    this.#view.phase("Kept");
    $("play").focus();
  }

  async #replay(item) {
    if (this.busy) return;
    this.#compare.close();
    const samples = await samplesOf(item.blob).catch(() => new Float32Array());
    this.#show(item, samples);
    if (samples.length) await this.#player.play();
    else this.#view.problem(UNPLAYABLE);
  }

  #show(item, samples, how) {
    this.#view.show(item, samples, how);
    this.#setShown(item);
    this.#recent.draw(item.id);
  }

  #setShown(item) {
    this.#shown = item;
    const seconds = item?.facts.duration_seconds ?? 0;
    $("result-actions").hidden = !item;
    $("compare-button").disabled = !item?.form;
    $("save-result").hidden = !item?.codes?.[0]?.length || item.speakers.length > 1;
    $("save-result").disabled = seconds > LONGEST_VOICE_SECONDS;
    $("save-result").title = seconds > LONGEST_VOICE_SECONDS ? `Only the voice of up to ${LONGEST_VOICE_SECONDS} seconds can be saved; speak a sentence or two.` : "";
  }

  #tell(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail })); }
}
