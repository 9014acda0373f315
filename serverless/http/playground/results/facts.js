// What is told about a result: length, times, seed, warnings.

import { warningInWords } from "../form/words.js";

const $ = (id) => document.getElementById(id);

/** keepSeed(seed): called when the seed is pressed. */
export function showFacts(facts, keepSeed) {
  const timings = facts.timings ?? {};
  const shown = [
    ["Length", facts.duration_seconds, (value) => `${value.toFixed(2)} s`],
    ["First sound after", timings.first_audio, (value) => `${value.toFixed(2)} s`],
    ["Ready after", timings.total, (value) => `${value.toFixed(2)} s`],
    ["Making speed", timings.real_time_factor, (value) => `${(1 / value).toFixed(1)}× playback`],
    ["Ended", facts.finish_reason, (value) => (value === "length" ? "cut off: piece too long" : "by itself")],
  ].filter(([, value]) => value !== undefined && value !== null);
  $("facts").replaceChildren(...shown.map(([name, value, format]) => pair(name, format(value))));
  if (facts.seed !== undefined) $("facts").append(seedOf(facts.seed, keepSeed));
  $("facts").hidden = $("facts").childElementCount === 0;
  const warnings = (facts.warnings ?? []).map((text) => Object.assign(document.createElement("li"), { textContent: warningInWords(text) }));
  $("warnings").replaceChildren(...warnings);
  $("warnings").hidden = warnings.length === 0;
}

export function hideFacts() { $("facts").hidden = $("warnings").hidden = true; }

/** A button: the way to hear the same again is to keep its seed. */
function seedOf(seed, keepSeed) {
  const keep = Object.assign(document.createElement("button"), { type: "button", className: "seed", textContent: seed });
  keep.title = "Keep this seed for the next request";
  keep.setAttribute("aria-label", `Keep seed ${seed} for the next request`);
  keep.onclick = () => keepSeed(seed);
  const made = pair("Seed", "");
  made.lastElementChild.append(keep);
  return made;
}

function pair(name, value) {
  const made = document.createElement("div");
  made.append(
    Object.assign(document.createElement("dt"), { textContent: name }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  );
  return made;
}
