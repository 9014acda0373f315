// From the form to the job, and from the job to text that can be copied.

const NUMBERS = ["temperature", "top_p", "top_k", "seed", "max_new_tokens", "ras_win_len", "ras_win_max_num_repeat"];
const CHOICES = { response_format: "wav", chunk_method: "auto" };

/** Tags of the speakers that the text names, in order: ["SPEAKER0", "SPEAKER1"]. */
export function speakersIn(script) {
  return [...new Set([...script.matchAll(/\[(SPEAKER\d{1,2})\]/g)].map((match) => match[1]))].sort();
}

/** Only what differs from the defaults goes into the request, so that it reads as what was meant. */
export function buildInput(form, voices, defaults) {
  const input = { script: form.elements.script.value.trim() };
  const scene = form.elements.scene_prompt.value.trim();
  if (scene) input.scene_prompt = scene;

  const named = voices.filter((voice) => voice.tag !== null);
  if (named.length) {
    const speakers = {};
    for (const voice of named) if (voice.value) speakers[voice.tag] = voice.value;
    if (Object.keys(speakers).length) input.speakers = speakers;
  } else if (voices[0]?.value?.voice) {
    input.voice = voices[0].value.voice;
  } else if (voices[0]?.value) {
    input.references = [voices[0].value];
  }

  for (const name of NUMBERS) {
    const text = form.elements[name].value.trim();
    const exact = Number.isInteger(Number(text)) && !Number.isSafeInteger(Number(text)) ? text : Number(text);
    if (text !== "" && exact !== defaults[name]) input[name] = exact;
  }
  for (const [name, usual] of Object.entries(CHOICES)) {
    const value = form.elements[name].value;
    if (value !== (defaults[name] ?? usual)) input[name] = value;
  }
  return input;
}

/** JSON for the eye (long base64 shortened) or for the clipboard (complete). */
export function jsonText(job, { short }) {
  const shorten = (name, value) =>
    short && name === "audio_base64" ? `${value.slice(0, 24)}… (${Math.ceil(value.length / 1024)} kB)` : value;
  return JSON.stringify(job, shorten, 2);
}

/** The same request on OpenAI's route, which answers the file's bytes. A here-document takes any length and quote. */
export function curlText(job, { short, withKey }) {
  const { script, response_format = "wav", ...rest } = job.input;
  const body = { input: script, ...rest, response_format };
  const key = withKey ? ' -H "Authorization: Bearer $HIGGS_AUDIO_API_KEY"' : "";
  return [
    `curl -sS --fail-with-body ${new URL("v1/audio/speech", location.href).href} -o speech.${response_format} \\`,
    `  -H "Content-Type: application/json"${key} --data-binary @- <<'JSON'`,
    jsonText(body, { short }),
    "JSON",
  ].join("\n");
}
