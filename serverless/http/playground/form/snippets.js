// The same request for other programs. Each is complete: it runs as it is copied.

const shorten = (text) => `${text.slice(0, 24)}… (${Math.ceil(text.length / 1024)} kB)`;

/** For the eye, long base64 is shortened. */
function readable(value) {
  return JSON.parse(JSON.stringify(value, (name, inner) => (name === "audio_base64" ? shorten(inner) : inner)));
}

/** The body of OpenAI's route for a job's input. */
function speechBody({ script, response_format = "wav", ...rest }) {
  return { input: script, ...rest, response_format };
}

/** JSON as a literal of Python, whose strings have the same escapes. */
function python(value, depth = 0) {
  const pad = "    ".repeat(depth + 1);
  const end = `\n${"    ".repeat(depth)}`;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = Array.isArray(value)
    ? value.map((item) => pad + python(item, depth + 1))
    : Object.entries(value).map(([name, item]) => `${pad}${JSON.stringify(name)}: ${python(item, depth + 1)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return inner.length ? `${open}\n${inner.join(",\n")},${end}${close}` : open + close;
}

const json = (job) => JSON.stringify(job, null, 2);

/** A here-document takes any length and quote. */
function curl({ input }, { base, withKey }) {
  const body = speechBody(input);
  const key = withKey ? ' -H "Authorization: Bearer $HIGGS_AUDIO_API_KEY"' : "";
  return [
    `curl -sS --fail-with-body ${base}v1/audio/speech -o speech.${body.response_format} \\`,
    `  -H "Content-Type: application/json"${key} --data-binary @- <<'JSON'`,
    json(body),
    "JSON",
  ].join("\n");
}

function requests({ input }, { base, withKey }) {
  const body = speechBody(input);
  const key = withKey ? '\n    headers={"Authorization": f"Bearer {os.environ[\'HIGGS_AUDIO_API_KEY\']}"},' : "";
  return `${withKey ? "import os\n\n" : ""}import requests

request = ${python(body)}
with requests.post(
    ${JSON.stringify(`${base}v1/audio/speech`)},${key}
    json=request,
    stream=True,
    timeout=600,
) as answer:
    if not answer.ok:
        raise SystemExit(answer.json()["error"]["message"])
    with open("speech.${body.response_format}", "wb") as file:
        for part in answer.iter_content(65536):
            file.write(part)
`;
}

function openai({ input }, { base, withKey }) {
  const { script, voice = "default", scene_prompt, response_format = "wav", speed, ...rest } = input;
  const known = { model: "higgs-audio-v2", voice, input: script, response_format };
  if (scene_prompt) known.instructions = scene_prompt;
  if (speed) known.speed = speed;
  if (Object.keys(rest).length) known.extra_body = rest;
  const fields = Object.entries(known).map(([name, value]) => `    ${name}=${python(value, 1)},`);
  return `${withKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(`${base}v1`)}, api_key=${withKey ? 'os.environ["HIGGS_AUDIO_API_KEY"]' : '"none"'})
with client.audio.speech.with_streaming_response.create(
${fields.join("\n")}
) as speech:
    speech.stream_to_file("speech.${response_format}")
`;
}

/** A queue endpoint answers at once or later, on a streaming worker with a list, and large audio by a link. */
function runpod(job) {
  return `import base64
import os
import time

import requests

endpoint = f"https://api.runpod.ai/v2/{os.environ['ENDPOINT_ID']}"
headers = {"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"}
job = ${python(job)}
answer = requests.post(f"{endpoint}/runsync", headers=headers, json=job, timeout=600).json()
while answer.get("status") in ("IN_QUEUE", "IN_PROGRESS"):
    time.sleep(1)
    answer = requests.get(f"{endpoint}/status/{answer['id']}", headers=headers, timeout=60).json()
output = answer.get("output")
if isinstance(output, list):
    output = output[0]
if not isinstance(output, dict) or "error" in output:
    raise SystemExit(answer.get("error") or output)
if "audio_base64" in output:
    audio = base64.b64decode(output["audio_base64"])
else:
    audio = requests.get(output["audio_url"], timeout=600).content
with open("speech.${job.input.response_format ?? "wav"}", "wb") as file:
    file.write(audio)
`;
}

const KEYS = "The key comes from the variable HIGGS_AUDIO_API_KEY.";
export const SNIPPETS = {
  json: { label: "JSON", write: json, help: () => "The body of POST /generate, and a job of a RunPod queue." },
  curl: { label: "curl", write: curl, help: ({ withKey }) => (withKey ? KEYS : "Run it in a shell.") },
  python: { label: "Python", write: requests, help: ({ withKey }) => `pip install requests. ${withKey ? KEYS : ""}` },
  openai: { label: "OpenAI", write: openai, help: ({ withKey }) => `pip install openai. ${withKey ? KEYS : ""}` },
  runpod: { label: "RunPod", write: runpod, help: () => "pip install requests. ENDPOINT_ID and RUNPOD_API_KEY are variables of yours." },
};

/** name: a key of SNIPPETS. at: {base: the server's address with "/", withKey}. short: for the eye, not to be run. */
export const snippet = (name, input, at, { short = false } = {}) =>
  SNIPPETS[name].write({ input: short ? readable(input) : input }, at);
