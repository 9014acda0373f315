// Scripts and the turns that they are made of: "[Alice] Good morning." is a turn of Alice.

const TAG = /\[(SPEAKER\d{1,2})\]/gi;
const LINE_NAME = /(?:^|\n)[ \t]*\[(\p{Lu}[\p{L}\p{N}_ .'-]{0,39})\]/gu;
const SOUND = /^(?:pause|laugh|laughter|cough|humming|music|sing|singing|applause|cheering)\b/i;
const collator = new Intl.Collator(undefined, { sensitivity: "accent" });
const same = (one, other) => collator.compare(one, other) === 0;

/** Names of the speakers in order of appearance: SPEAKER0 anywhere, other names where they begin a line. */
export function speakersIn(script) {
  const found = [];
  for (const match of script.matchAll(TAG)) found.push([match.index, match[1].toUpperCase()]);
  for (const match of script.matchAll(LINE_NAME)) {
    const at = match.index + match[0].indexOf("[");
    const name = match[1].trim();
    if (!SOUND.test(name) && !/^SPEAKER\d{1,2}$/i.test(name)) found.push([at, name]);
  }
  found.sort(([a], [b]) => a - b);
  const names = [];
  for (const [, name] of found) if (!names.some((known) => same(known, name))) names.push(name);
  return names;
}

/** [{speaker, text, start}] with `start` where the text begins in the script. Words before the first tag have speaker "".
 * names: of the speakers, where the script is only a part of a text. */
export function turnsOf(script, names = speakersIn(script)) {
  const turns = [];
  let speaker = "";
  let from = 0;
  const take = (to) => {
    const text = script.slice(from, to);
    if (text.trim() || speaker) turns.push({ speaker, text: text.trim(), start: from + text.search(/\S|$/) });
  };
  for (const match of script.matchAll(/\[([^[\]\n]{1,42})\]/g)) {
    const name = names.find((known) => same(known, match[1].trim()));
    if (!name) continue;
    take(match.index);
    speaker = name;
    from = match.index + match[0].length;
  }
  take(script.length);
  return turns;
}

/** The script of turns; those without words are left out. */
export function scriptOf(turns) {
  return turns
    .filter((turn) => turn.text.trim())
    .map((turn) => (turn.speaker ? `[${turn.speaker}] ${turn.text.trim()}` : turn.text.trim()))
    .join("\n");
}

/** The colour of each speaker, as a number of the style sheet's palette. */
export const colourOf = (names, name) => Math.max(0, names.indexOf(name)) % 6;

/** "SPEAKER1" is shown as "Speaker 1". */
export const shownName = (name) => (/^SPEAKER\d{1,2}$/.test(name) ? `Speaker ${name.slice(7)}` : name);

/** Words that are spoken: no tags, sounds or pauses. */
export const wordsIn = (script) =>
  turnsOf(script).flatMap((turn) => turn.text.replace(/\[[^[\]\n]{1,42}\]/g, " ").split(/\s+/)).filter(Boolean);
