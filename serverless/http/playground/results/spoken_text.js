// The text of a result, lit up as it is heard. Pieces have times; within a piece the length of the words decides.

import { colourOf, shownName, turnsOf } from "../form/script.js";
import { ToCome } from "./to_come.js";

const $ = (id) => document.getElementById(id);
const INSTRUCTION = /<\|generation_instruction_start\|>.*?<\|generation_instruction_end\|>/gs;
const SOUND = /<(SE|SE_s|SE_e)>\[?([^<>[\]]*)\]?<\/\1>/g;
const WHEN = { SE: "", SE_s: " begins", SE_e: " ends" };
// a word with its punctuation; writing without spaces is lit up letter by letter
const WORD = /([\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}][^\s\p{L}\p{N}]*|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}])\S)+)(\s*)/gu;

const IDEOGRAPH = /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]/u;
const USUAL_PACE = 0.07; // seconds that a letter takes, until a piece of the same result tells

/** How much of its piece's time a word takes: its letters and the gap behind it. */
const shareOf = (word) => (IDEOGRAPH.test(word) ? 3 : word.length + 1);

/** The model's marks for sounds in words of people. */
const readable = (text) => text.replace(INSTRUCTION, "").replace(SOUND, (mark, kind, sound) => `[${sound}${WHEN[kind]}]`);

export class SpokenText {
  #toCome = new ToCome("");
  #speakers = [];
  #pieces = []; // {start_seconds, end_seconds?, words, shares}
  #words = []; // {element, from, share} in order; from: seconds
  #turn = null; // the paragraph that is written
  #speaker = ""; // who has the turn; a piece may begin in the middle of it
  #pace = USUAL_PACE; // seconds for one of the shares of a word
  #seek;
  #lit = 0;

  /** seek(seconds): called when a word is pressed. */
  constructor(seek) {
    this.#seek = seek;
    $("spoken").onclick = (event) => {
      const word = this.#words.find(({ element }) => element === event.target);
      if (word) this.#seek(word.from);
    };
  }

  start(script, speakers) {
    this.#speakers = speakers;
    this.#toCome = new ToCome(script);
    this.#clear();
    this.#showToCome();
  }

  /** A piece whose sound begins to arrive. */
  piece(piece) {
    const last = this.#pieces.at(-1);
    if (last) {
      this.#time(last, (last.end_seconds ??= piece.start_seconds));
      const shares = this.#pieces.reduce((sum, each) => sum + each.shares, 0);
      if (shares) this.#pace = last.end_seconds / shares;
    }
    this.#add(piece);
    this.#toCome.spoken(piece.text);
    this.#showToCome();
  }

  /** All pieces with their final times. length: seconds of the whole. */
  done(chunks, length) {
    if (!chunks?.length) {
      const last = this.#pieces.at(-1);
      if (last) last.end_seconds ??= length;
      if (last) this.#time(last, last.end_seconds);
      return;
    }
    this.#clear();
    chunks.forEach((chunk) => this.#add(chunk));
  }

  /** Lights up what has been heard. length: seconds of sound that there are. */
  light(position, length) {
    const open = this.#pieces.at(-1);
    // only a part of the piece may have arrived: its words are not hurried through that part
    if (open && open.end_seconds === undefined) this.#time(open, Math.max(length, open.start_seconds + this.#pace * open.shares));
    const before = this.#lit;
    let lit = before;
    while (lit > 0 && this.#words[lit - 1].from >= position) lit--;
    while (lit < this.#words.length && this.#words[lit].from < position) lit++;
    for (let i = Math.min(lit, before); i < Math.max(lit, before); i++) this.#words[i].element.classList.toggle("heard", i < lit);
    if (lit !== before) {
      this.#words[before - 1]?.element.classList.remove("now");
      const now = this.#words[lit - 1]?.element;
      now?.classList.add("now");
      this.#follow(now);
    }
    this.#lit = lit;
  }

  /** Keeps the word that is spoken in view, without moving the page. */
  #follow(word) {
    const box = $("spoken");
    if (!word || box.scrollHeight <= box.clientHeight) return;
    if (word.offsetTop < box.scrollTop || word.offsetTop + word.offsetHeight > box.scrollTop + box.clientHeight) {
      box.scrollTop = word.offsetTop - box.clientHeight / 3;
    }
  }

  #clear() {
    this.#pieces = [];
    this.#words = [];
    this.#turn = null;
    this.#speaker = "";
    this.#pace = USUAL_PACE;
    this.#lit = 0;
    $("spoken").replaceChildren();
  }

  #showToCome() {
    for (const { speaker, text } of this.#toCome.turns) {
      this.#open(speaker);
      this.#turn.append(Object.assign(document.createElement("span"), { className: "later", textContent: text }));
    }
    $("spoken").hidden = $("spoken").childElementCount === 0;
  }

  /** Writes a piece behind the others, in place of what was still to come. */
  #add({ text, start_seconds, end_seconds }) {
    const piece = { start_seconds, end_seconds, words: [], shares: 0 };
    $("spoken").querySelectorAll(".later").forEach((later) => later.remove());
    for (const turn of [...$("spoken").children]) if (!turn.querySelector(".word")) turn.remove();
    this.#turn = $("spoken").lastElementChild;
    for (const turn of turnsOf(readable(text), this.#speakers)) {
      this.#speaker = turn.speaker || this.#speaker;
      if (turn.text) this.#write(turn.text, piece);
    }
    this.#pieces.push(piece);
    this.#time(piece, end_seconds ?? start_seconds + this.#pace * piece.shares);
  }

  /** The paragraph of a speaker's turn: the last one, if it is theirs. */
  #open(name) {
    if (this.#turn?.dataset.name === name) return;
    this.#turn = document.createElement("p");
    this.#turn.dataset.name = name;
    if (name) {
      this.#turn.dataset.colour = colourOf(this.#speakers, name);
      this.#turn.append(Object.assign(document.createElement("b"), { textContent: shownName(name) }), " ");
    }
    $("spoken").append(this.#turn);
  }

  #write(text, piece) {
    this.#open(this.#speaker);
    for (const [, word, space] of text.matchAll(WORD)) {
      const element = Object.assign(document.createElement("span"), { className: "word", textContent: word });
      this.#turn.append(element, space && " ");
      const entry = { element, from: 0, share: shareOf(word) };
      piece.words.push(entry);
      piece.shares += entry.share;
      this.#words.push(entry);
    }
    this.#turn.append(" ");
  }

  /** Shares the piece's time among its words. */
  #time({ start_seconds, words, shares }, end) {
    let before = 0;
    for (const word of words) {
      word.from = start_seconds + ((end - start_seconds) * before) / shares;
      before += word.share;
    }
  }
}
