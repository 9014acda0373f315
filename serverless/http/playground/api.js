// The server's routes as the page uses them. Paths are relative, so that the page also works behind a prefix.

const KEY = "higgs-audio-key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

export class ApiError extends Error {
  constructor(message, { status = 0, field = null, hint = null } = {}) {
    super(message);
    this.status = status;
    this.field = field;
    this.hint = hint;
  }
}

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

/** Either shape of error: the queue's flat one, or OpenAI's envelope. */
function toError(body, status) {
  const inner = typeof body?.error === "object" ? body.error : body;
  const message = inner?.message ?? inner?.error ?? `The server answered with status ${status}.`;
  return new ApiError(message, { status, field: inner?.field ?? inner?.param, hint: inner?.hint });
}

async function failed(response) {
  const body = await response.json().catch(() => null);
  return toError(body, response.status);
}

async function getJson(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw await failed(response);
  return response.json();
}

export const models = () => getJson("v1/models");
export const voices = () => getJson("v1/audio/voices");

/** "ready", "loading" or "failed", with the reason of a failure. */
export async function ping() {
  const response = await fetch("ping");
  if (response.status === 200) return { state: "ready" };
  if (response.status === 204) return { state: "loading" };
  return { state: "failed", reason: (await failed(response)).message };
}

/** Sends a job and yields the lines of its stream: chunks with audio, the last one with usage and timings. */
export async function* generate(job, signal) {
  const response = await fetch("generate", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers() },
    body: JSON.stringify(job),
    signal,
  });
  if (!response.ok) throw await failed(response);
  let rest = "";
  for await (const text of decoded(response.body)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) yield parsed(line, response.status);
  }
  if (rest.trim()) yield parsed(rest, response.status);
}

function parsed(line, status) {
  // seeds go up to 2**63, further than a JavaScript number is exact
  const item = JSON.parse(line.replace(/(?<!\\)"seed": ?(\d+)/, '"seed":"$1"'));
  if (item.error) throw toError(item, status);
  return item;
}

async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
