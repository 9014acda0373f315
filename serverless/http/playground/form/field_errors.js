// An error stands at the control that it is about, in the words of its label.

import { SETTINGS } from "./settings.js";

const $ = (id) => document.getElementById(id);
const TEXT_FIELDS = /^(?:script|input|text|prompt|dialogue|script_speaker_tag)\b/;
const VOICE_FIELDS = /^(?:voice|references?|speakers|reference_\w+)\b/;
const VOICES = "voice-choice"; // the name of the cards' radio buttons
const wrongId = (control) => `wrong-${control.id || control.name || "turn"}`;

/** Where a field of the request stands: {control, label, words}, or null. `text`: the control that holds the text. */
function placeOf(field, text) {
  const setting = SETTINGS.find((each) => each.field === field);
  if (setting) return { control: $(setting.name), label: setting.label, fromField: setting.fromField };
  if (field === "scene_prompt" || field === "instructions") return { control: $("scene"), label: "The scene" };
  if (TEXT_FIELDS.test(field)) return { control: text, label: "The text" };
  if (VOICE_FIELDS.test(field)) {
    const picked = $("gallery").querySelector("input:checked") ?? $("gallery").querySelector("input");
    return { control: picked, label: "The voice", after: $("gallery") };
  }
  return null;
}

/** The server's sentence with the label in place of the field's name, and its numbers in the control's unit. */
function worded(message, field, { label, fromField }) {
  const counted = fromField ? message.replace(/(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)/g, (count) => fromField(Number(count))) : message;
  const parts = field.split(/[.[]/)[0];
  const name = new RegExp(`^${parts}[\\w.\\[\\] -]*?(?=:| is | has | names | takes | says )`);
  return counted.replace(name, label);
}

/** Shows an error of the server at its control. Returns whether there is one. */
export function showFieldError({ field, message, hint }, text) {
  const place = field && placeOf(field, text);
  if (!place?.control) return false;
  showAt(place.control, [worded(message, field, place), hint].filter(Boolean).join(" "), place.after);
  return true;
}

/** Marks a control, says why below it, and leads there. */
export function showAt(control, message, after = control) {
  forgive(control);
  const said = Object.assign(document.createElement("p"), { className: "wrong", id: wrongId(control), textContent: message });
  said.setAttribute("role", "alert");
  after.insertAdjacentElement("afterend", said);
  control.setAttribute("aria-invalid", "true");
  control.dataset.describedBefore = control.getAttribute("aria-describedby") ?? "";
  control.setAttribute("aria-describedby", `${said.id} ${control.dataset.describedBefore}`.trim());
  control.closest("details")?.setAttribute("open", "");
  control.focus({ preventScroll: true });
  said.scrollIntoView({ block: "center" });
}

/** Takes the mark away, once the person has changed something there. Voices are one group. */
export function forgive(changed) {
  const control = changed.name === VOICES ? document.querySelector(`[name="${VOICES}"][aria-invalid]`) : changed;
  if (control?.getAttribute("aria-invalid") !== "true") return;
  document.getElementById(wrongId(control))?.remove();
  control.removeAttribute("aria-invalid");
  if (control.dataset.describedBefore) control.setAttribute("aria-describedby", control.dataset.describedBefore);
  else control.removeAttribute("aria-describedby");
}

export const forgiveAll = () => document.querySelectorAll("[aria-invalid]").forEach(forgive);
