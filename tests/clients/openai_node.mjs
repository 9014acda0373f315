// What OpenAI's client for Node gets of a server: node openai_node.mjs BASE_URL, the answers as JSON on stdout.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "not needed", maxRetries: 0 });
const speech = { model: "tts-1", voice: "alloy", input: "Hello from Node." };
// Fields that are not OpenAI's stand beside the others; this client has no extra_body.
const own = { max_new_tokens: 60, seed: 11 };
const told = {};

const lengths = {};
for (const response_format of ["mp3", "opus", "flac", "wav", "pcm"]) {
  const answer = await client.audio.speech.create({ ...speech, response_format, ...own });
  const bytes = (await answer.arrayBuffer()).byteLength;
  lengths[response_format] = [answer.headers.get("content-type"), bytes];
}
told.lengths = lengths;

const streamed = await client.audio.speech.create({ ...speech, response_format: "pcm", ...own });
let parts = 0;
let total = 0;
for await (const part of streamed.body) {
  parts += 1;
  total += part.length;
}
told.streamed = { parts, total };

const answer = await client.audio.speech.create({ ...speech, response_format: "pcm", stream_format: "sse", ...own });
const events = (await answer.text())
  .split("\n\n")
  .filter((event) => event.startsWith("data: "))
  .map((event) => JSON.parse(event.slice("data: ".length)));
told.events = {
  types: [...new Set(events.map((event) => event.type))],
  bytes: events.reduce((sum, event) => sum + Buffer.from(event.audio ?? "", "base64").length, 0),
  usage: events.at(-1).usage,
};

told.models = (await client.models.list()).data.map((model) => model.id);
told.dated = (await client.models.retrieve("gpt-4o-mini-tts-2025-12-15")).id;
told.voices = (await client.get("/audio/voices")).voices.length;
const batch = await client.post("/audio/speech/batch", { body: { items: [speech, { ...speech, speed: 9 }], ...own } });
told.batch = batch.results.map((entry) => entry.error?.param ?? entry.media_type);

try {
  await client.audio.speech.create({ ...speech, speed: 9 });
} catch (error) {
  told.refused = { name: error.constructor.name, status: error.status, param: error.param, type: error.type };
}

process.stdout.write(JSON.stringify(told));
