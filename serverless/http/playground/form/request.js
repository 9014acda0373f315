// From what the form holds to the job's input.

import { scriptOf, speakersIn } from "./script.js";
import { fieldsOf } from "./settings.js";

/** text: {mode: "plain", script} or {mode: "turns", turns: [{speaker, text}]}. */
export const scriptIn = (text) => (text.mode === "turns" ? scriptOf(text.turns) : (text.script ?? "")).trim();

/** Names of the speakers of a text, in order; none where nobody is named. */
export const namesIn = (text) =>
  text.mode === "turns" ? [...new Set(text.turns.map((turn) => turn.speaker.trim()).filter(Boolean))] : speakersIn(text.script ?? "");

/** What the request says about a choice of a voice; null leaves the voice to the model. */
function voiceField(choice) {
  if (choice?.kind !== "clip") return choice ? { voice: choice.id } : null;
  const words = choice.transcript.trim();
  return { audio_base64: choice.clip.base64, ...(words && { transcript: words }) };
}

/** snapshot: {text, scene, voices: {name: choice}, settings: {name: text}} of the form. Only what differs from the
 * server's defaults is in the input. */
export function buildInput({ text, scene = "", voices = {}, settings = {} }, defaults) {
  const input = { script: scriptIn(text) };
  if (scene.trim()) input.scene_prompt = scene.trim();
  const names = namesIn(text);
  const speakers = {};
  for (const name of names) {
    const voice = voiceField(voices[name]);
    // a name is known to the server by its entry here; SPEAKER0 it knows anyway
    if (voice || !/^SPEAKER\d{1,2}$/.test(name)) speakers[name] = voice ?? { voice: "default" };
  }
  const alone = names.length ? null : voiceField(voices[""]);
  if (Object.keys(speakers).length) input.speakers = speakers;
  if (alone?.voice) input.voice = alone.voice;
  else if (alone) input.references = [alone];
  return { ...input, ...fieldsOf(settings, defaults) };
}
