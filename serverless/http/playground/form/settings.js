// How to speak, in words of people: the values of the form's controls, what they are called, and what they mean.

import { withPreset } from "./presets.js";

const $ = (id) => document.getElementById(id);
const COLUMNS_PER_SECOND = 25; // decode steps that make a second of speech

/** Each control by its name: the request's field, and how a value of the one is written as the other. */
export const SETTINGS = [
  { name: "preset", field: "preset", label: "Kind of sound", usual: "speech", choice: true },
  { name: "speed", field: "speed", label: "Speed", usual: 1 },
  { name: "temperature", field: "temperature", label: "How lively", usual: 0.3 },
  { name: "top_p", field: "top_p", label: "Range of sounds", usual: 1 },
  { name: "top_k", field: "top_k", label: "Sounds to choose from" },
  { name: "seed", field: "seed", label: "Seed" },
  {
    name: "longest_piece", field: "max_new_tokens", label: "Longest piece", unit: "seconds",
    toField: (seconds) => Math.round(seconds * COLUMNS_PER_SECOND), fromField: (columns) => columns / COLUMNS_PER_SECOND,
  },
  { name: "chunk_method", field: "chunk_method", label: "Long text", usual: "auto", choice: true },
  {
    name: "chunk_parallel", field: "chunk_parallel", label: "Pieces of a long text", usual: false, choice: true,
    toField: (chosen) => chosen === "true",
  },
  { name: "ras_win_len", field: "ras_win_len", label: "Watch for repeats over" },
  { name: "ras_win_max_num_repeat", field: "ras_win_max_num_repeat", label: "Repeats allowed there" },
  { name: "normalize_numbers", field: "normalize_numbers", label: "Numbers and units", usual: "", choice: true },
  { name: "loudness", field: "loudness", label: "Loudness", usual: "", choice: true, toField: Number },
  { name: "response_format", field: "response_format", label: "File", usual: "wav", choice: true },
];
const RANGES = new Set(["speed", "temperature", "top_p"]); // sliders always have a value

const LIVELY = [
  [0, "Always the likeliest sound: the same every time, often flat."],
  [0.5, "Steady and clear; good for reading aloud."],
  [0.9, "More expression, now and then a slip."],
  [1.3, "Very lively; words may go astray."],
  [Infinity, "Wild; expect surprises rather than words."],
];

/** The values of the controls, as they stand: {name: text}. */
export const values = () => Object.fromEntries(SETTINGS.map(({ name }) => [name, $(name).value]));

/** Puts values into the controls; what is not given takes the server's default. */
export function setValues(given, serverDefaults) {
  const defaults = withPreset(serverDefaults, given.preset ?? "speech");
  for (const { name, field, usual } of SETTINGS) {
    const fallback = RANGES.has(name) || usual !== undefined ? String(defaults[field] ?? usual) : "";
    $(name).value = given[name] ?? fallback;
    if (["top_k", "ras_win_len", "ras_win_max_num_repeat"].includes(name)) $(name).placeholder = defaults[field] ?? "off";
  }
}

/** Only what differs from the defaults goes into the request, so that it reads as what was meant. */
export function fieldsOf(given, serverDefaults) {
  const defaults = withPreset(serverDefaults, given.preset);
  const fields = {};
  for (const { name, field, usual, choice, toField } of SETTINGS) {
    const text = (given[name] ?? "").trim();
    const number = Number(text);
    // a whole number that JavaScript cannot hold goes as text; the server reads it exactly
    const exact = Number.isInteger(number) && !Number.isSafeInteger(number) ? text : number;
    const plain = choice ? text : exact;
    const value = toField ? toField(choice ? text : number) : plain;
    if (text !== "" && value !== (defaults[field] ?? usual)) fields[field] = value;
  }
  return fields;
}

/** What is said beside the controls and on the closed card. */
export function describeSettings(defaults) {
  const lively = Number($("temperature").value);
  $("temperature-value").textContent = lively;
  $("temperature-help").textContent = LIVELY.find(([most]) => lively <= most)[1];
  $("top_p-value").textContent = Number($("top_p").value) === 1 ? "all" : $("top_p").value;
  $("speed-value").textContent = `${Number($("speed").value)}×`;
  $("speed").setAttribute("aria-valuetext", `${Number($("speed").value)} times`);
  const given = values();
  const fields = fieldsOf(given, defaults);
  const changed = SETTINGS.filter(({ name, field }) => name !== "speed" && field in fields);
  $("advanced-summary").textContent =
    changed.map(({ name, label, unit, choice }) => `${label}: ${choice ? $(name).selectedOptions[0].text.split(",")[0] : given[name]}${unit ? ` ${unit}` : ""}`).join(" · ") || "nothing changed";
}

/** What is wrong with a number before it is sent: {control, message}, or null. */
export function firstInvalid() {
  for (const { name, label, unit = "" } of SETTINGS) {
    const { validity, min, max } = $(name);
    const units = unit && ` ${unit}`;
    if (validity.badInput) return { control: $(name), message: `${label} needs a number.` };
    if (validity.rangeUnderflow) return { control: $(name), message: `${label} must be at least ${min}${units}.` };
    if (validity.rangeOverflow) return { control: $(name), message: `${label} can be at most ${max}${units}.` };
    if (validity.stepMismatch) return { control: $(name), message: `${label} must be a whole number.` };
  }
  return null;
}
