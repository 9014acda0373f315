// An error stands at the control that it is about, in the words of its label.

import { shownName } from "./script.js";
import { SETTINGS } from "./settings.js";
import { errorInWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const TEXT_FIELDS = /^(?:script|input|text|prompt|dialogue|script_speaker_tag)\b/;
const VOICE_FIELDS = /^(?:voice|references?|speakers|reference_\w+)\b/;
const VOICES = "voice-choice"; // the name of the cards' radio buttons
const wrongId = (control) => `wrong-${control.id || control.name || "turn"}`;

/** Where a field of the request stands: {control, label, fromField, after}, or null. text: the control that holds the
 * text. names: the speakers. */
function placeOf(field, text, names) {
  const setting = SETTINGS.find((each) => each.field === field);
  if (setting) return { control: $(setting.name), label: setting.label, fromField: setting.fromField };
  if (field === "scene_prompt" || field === "instructions") return { control: $("scene"), label: "The scene" };
  if (TEXT_FIELDS.test(field)) return { control: text, label: "The text" };
  const speaker = speakerOf(field, names);
  if (speaker !== null) {
    const picked = $("gallery").querySelector("input:checked") ?? $("gallery").querySelector("input");
    return { control: picked, label: speaker ? `The voice of ${shownName(speaker)}` : "The voice", after: $("gallery") };
  }
  return null;
}

/** Whom of the speakers a field of the request is about, "" for nobody; null where it is not about a voice. */
export function speakerOf(field, names) {
  if (!VOICE_FIELDS.test(field ?? "")) return null;
  return names.find((name) => `${field}.`.startsWith(`speakers.${name}.`)) ?? "";
}

/** Shows an error of the server at its control. Returns whether there is one. */
export function showFieldError({ field, message, hint }, text, names) {
  const place = field && placeOf(field, text, names);
  if (!place?.control) return false;
  showAt(place.control, [errorInWords(message, field, place), hint].filter(Boolean).join(" "), place.after);
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
