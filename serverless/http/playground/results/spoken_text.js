// The text of a result, lit up as it is heard. Pieces have times; within a piece the share of characters decides.

import { colourOf, shownName, turnsOf } from "../form/script.js";

const $ = (id) => document.getElementById(id);
const letters = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");

/** What of the script is still to come after the pieces; "" where the pieces' words are not those of the script. */
function remainder(script, speakers, pieces) {
  let left = letters(pieces.flatMap((piece) => turnsOf(piece.text, speakers)).map((turn) => turn.text).join(""));
  const plain = turnsOf(script, speakers).map((turn) => (turn.speaker ? `\n${turn.text}` : turn.text)).join("");
  let at = 0;
  for (; left && at < plain.length; at++) {
    const letter = letters(plain[at]);
    if (!letter) continue;
    if (!left.startsWith(letter)) return "";
    left = left.slice(letter.length);
  }
  while (at < plain.length && !letters(plain[at]) && !/\s/.test(plain[at])) at++;
  return plain.slice(at).trim();
}

export class SpokenText {
  #script = "";
  #speakers = [];
  #pieces = []; // {text, start_seconds, end_seconds?}
  #words = []; // {element, from} in order; from: seconds
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
    this.#script = script;
    this.#speakers = speakers;
    this.#pieces = [];
    this.#draw();
  }

  /** A piece whose sound begins to arrive. */
  piece(piece) {
    const last = this.#pieces.at(-1);
    if (last) last.end_seconds ??= piece.start_seconds;
    this.#pieces.push({ ...piece });
    this.#draw();
  }

  /** All pieces with their final times. */
  done(chunks) {
    if (!chunks?.length) return;
    this.#pieces = chunks.map((chunk) => ({ ...chunk }));
    this.#draw();
  }

  /** Lights up what has been heard. length: seconds of sound that there are. */
  light(position, length) {
    const open = this.#pieces.at(-1);
    if (open && open.end_seconds === undefined) this.#time(open, Math.max(length, open.start_seconds + 0.1));
    let lit = 0;
    while (lit < this.#words.length && this.#words[lit].from < position) lit++;
    for (let i = Math.min(lit, this.#lit); i < Math.max(lit, this.#lit); i++) this.#words[i].element.classList.toggle("heard", i < lit);
    if (lit !== this.#lit) {
      this.#words[this.#lit - 1]?.element.classList.remove("now");
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

  #draw() {
    this.#words = [];
    this.#lit = 0;
    const turns = [];
    const open = (name) => {
      if (turns.length && turns.at(-1).dataset.name === name) return turns.at(-1);
      const turn = document.createElement("p");
      turn.dataset.name = name;
      if (name) {
        turn.dataset.colour = colourOf(this.#speakers, name);
        turn.append(Object.assign(document.createElement("b"), { textContent: shownName(name) }), " ");
      }
      turns.push(turn);
      return turn;
    };
    let speaker = ""; // who has the turn; a piece may begin in the middle of it
    for (const piece of this.#pieces) {
      piece.words = [];
      for (const turn of turnsOf(piece.text, this.#speakers)) {
        speaker = turn.speaker || speaker;
        if (turn.text) this.#append(open(speaker), turn.text, piece);
      }
      this.#time(piece, piece.end_seconds ?? piece.start_seconds + 0.1);
    }
    const rest = remainder(this.#script, this.#speakers, this.#pieces);
    if (rest) (turns.at(-1) ?? open("")).append(Object.assign(document.createElement("span"), { className: "later", textContent: rest }));
    $("spoken").replaceChildren(...turns);
    $("spoken").hidden = turns.length === 0;
  }

  #append(turn, text, piece) {
    for (const word of text.split(/\s+/)) {
      const element = Object.assign(document.createElement("span"), { className: "word", textContent: word });
      turn.append(element, " ");
      const entry = { element, from: 0 };
      piece.words.push(entry);
      this.#words.push(entry);
    }
  }

  /** Shares the piece's time among its words by their characters. */
  #time(piece, end) {
    const all = piece.words.reduce((sum, { element }) => sum + element.textContent.length + 1, 0);
    let before = 0;
    const length = end - piece.start_seconds;
    for (const word of piece.words) {
      word.from = piece.start_seconds + (length * before) / all;
      before += word.element.textContent.length + 1;
    }
  }
}
