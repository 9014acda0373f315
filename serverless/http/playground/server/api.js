// The server's routes as the page uses them. Paths are relative, so that the page also works behind a prefix.

import { kept } from "../storage/kept.js";

const tab = kept("session", "higgs-audio-key");

export const key = {
  get: () => tab.get() ?? "",
  set: (value) => tab.set(value || null),
};

/** status 0: the server was not reached. */
export class ApiError extends Error {
  constructor(message, { status = 0, field = null, hint = null } = {}) {
    super(message);
    this.status = status;
    this.field = field;
    this.hint = hint;
  }
}

const BROKEN_OFF = "The connection broke off before the speech was complete.";
const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

// for answers without words, as proxies give them
const WORDS = {
  413: "The request is larger than the server takes.",
  429: "The server has too many requests at the moment.",
  500: "The server has failed.",
  502: "The server cannot be reached at the moment.",
  503: "The server is busy at the moment.",
  504: "The server has taken too long.",
};

/** Either shape of error: the queue's flat one, or OpenAI's envelope. */
function toError(body, { status, headers: told }) {
  const inner = typeof body?.error === "object" ? body.error : body;
  const message = inner?.message ?? inner?.error ?? WORDS[status] ?? `The server answered with status ${status}.`;
  const seconds = Number(told.get("Retry-After") ?? NaN); // a proxy may give a date instead
  const hint = inner?.hint ?? (seconds > 0 ? `Try again in ${seconds === 1 ? "a second" : `${seconds} seconds`}.` : null);
  return new ApiError(message, { status, field: inner?.field ?? inner?.param, hint });
}

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer.");
  }
  if (!response.ok) throw toError(await response.json().catch(() => null), response);
  return response;
}

const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const getJson = async (path) => (await asked(path)).json();
const voicePath = (id) => `v1/audio/voices/${encodeURIComponent(id)}`;

export const models = () => getJson("v1/models");
export const voices = () => getJson("v1/audio/voices");
export const preview = async (id) => (await asked(`${voicePath(id)}/preview`)).blob();
export const deleteVoice = (id) => asked(voicePath(id), { method: "DELETE" });
export const addVoice = async (body) => (await asked("v1/audio/voices", json(body))).json();

/** fields: {name, consent, ref_text, speaker_description}; those that are blank are left out. */
export async function uploadVoice(clip, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  body.append("audio_sample", clip, "clip.wav");
  return (await asked("v1/audio/voices", { method: "POST", body })).json();
}

/** "ready", "loading", "failed" or "offline", with the reason of a failure. */
export async function ping() {
  let response;
  try {
    response = await fetch("ping", { cache: "no-store" });
  } catch {
    return { state: "offline" };
  }
  if (response.status === 200) return { state: "ready" };
  if (response.status === 204) return { state: "loading" };
  return { state: "failed", reason: toError(await response.json().catch(() => null), response).message };
}

/** Sends a job and yields the lines of its stream: chunks with audio, the last one with usage and timings. */
export async function* generate(job, signal) {
  const response = await asked("generate", { ...json(job), signal });
  let rest = "";
  let last = {};
  for await (const text of decoded(response.body)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) yield (last = parsed(line, response));
  }
  if (rest.trim()) yield (last = parsed(rest, response));
  if (!last.is_final) throw new ApiError(BROKEN_OFF); // a proxy may end a stream as if it were whole
}

function parsed(line, response) {
  // seeds go up to 2**63, further than a JavaScript number is exact
  let item;
  try {
    item = JSON.parse(line.replace(/(?<!\\)"seed": ?(\d+)/, '"seed":"$1"'));
  } catch {
    throw new ApiError(BROKEN_OFF);
  }
  if (item.error) throw toError(item, response);
  return item;
}

async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(BROKEN_OFF);
  } finally {
    reader.cancel().catch(() => {});
  }
}
