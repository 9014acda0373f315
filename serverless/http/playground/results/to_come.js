// What of a script is still to come while its pieces are spoken. A piece says the script's words, but not always letter
// by letter: numbers may be written out, punctuation is set in order, and sounds have names of the model.

import { turnsOf } from "../form/script.js";

const WINDOW = 12; // words that a piece may leave out before it is found again
const PAUSE = /[[【]\s*pause(?:[\s:=：][^[\]【】\n]*)?[\]】]/gi;
const TAGS = /<[^<>]*>|\[[^[\]\n]{1,42}\]/g;
const IDEOGRAPHS = "\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}";
const WORD = new RegExp(`[${IDEOGRAPHS}]|(?:(?![${IDEOGRAPHS}])[\\p{L}\\p{M}\\p{N}])+`, "gu");
const NUMBER = /\p{N}/u;

/** Tags as long as they were, so that words keep their places. */
const withoutTags = (text) => text.replace(TAGS, (tag) => " ".repeat(tag.length));
const wordsOf = (text) => [...withoutTags(text).toLowerCase().matchAll(WORD)];

export class ToCome {
  #turns; // {speaker, text}
  #words; // {word, turn, at} in order; at: where it begins in the turn's text
  #next = 0;

  constructor(script) {
    this.#turns = turnsOf(script).map(({ speaker, text }) => ({ speaker, text: text.replace(PAUSE, " ").trim() }));
    this.#words = this.#turns.flatMap(({ text }, turn) => wordsOf(text).map((match) => ({ word: match[0], turn, at: match.index })));
  }

  /** Takes off what a piece says. */
  spoken(text) {
    let known = true;
    for (const [word] of wordsOf(text)) {
      const ahead = this.#words.slice(this.#next, this.#next + WINDOW);
      const found = ahead.findIndex((each) => each.word === word);
      known = found >= 0;
      this.#next += found + 1;
    }
    // a piece that ends with other words ends with a number that was written out
    while (!known && NUMBER.test(this.#words[this.#next]?.word ?? "")) this.#next++;
  }

  /** [{speaker, text}]; the first may be the end of a turn that has begun. */
  get turns() {
    const next = this.#words[this.#next];
    if (!next) return [];
    const [first, ...others] = this.#turns.slice(next.turn);
    const quote = first.text.slice(0, next.at).match(/[\p{Ps}\p{Pi}"'¿¡]*$/u)[0]; // opens what comes
    return [{ speaker: first.speaker, text: quote + first.text.slice(next.at) }, ...others];
  }
}
