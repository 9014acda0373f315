// Wires the form, the player and the lists together.

import * as api from "./api.js";
import { History } from "./history.js";
import { Player } from "./player.js";
import { buildInput, curlText, jsonText, speakersIn } from "./request.js";
import { ResultView, clock } from "./result.js";
import { VoiceRow } from "./voices.js";
import { base64ToBytes, Pcm16Reader, wavFromPcm16 } from "./wav.js";

const $ = (id) => document.getElementById(id);
const form = $("form");
const EXAMPLES = {
  Greeting: { script: "Hello, and welcome. It is good to hear from you again." },
  Conversation: {
    script: "[SPEAKER0] Did you hear the storm last night?\n[SPEAKER1] Hear it? I thought the roof was leaving without us.\n[SPEAKER0] It nearly did!",
    scene: "Two friends talk in a quiet kitchen.",
  },
  Story: {
    script: "The lighthouse had been dark for eleven years when the lamp came on by itself. Nobody in the village said a word about it. They simply set one more place at the table, and waited.",
    scene: "A calm bedtime story, spoken slowly and softly.",
  },
};

const player = new Player();
const history = new History();
const view = new ResultView(player);
const state = { library: [], voices: [], defaults: {}, running: null, needsKey: false, shown: "json" };

// ── the form ───────────────────────────────────────────────────────────────────────────────────────────────────────
function currentJob() {
  return { input: buildInput(form, state.voices, state.defaults) };
}

function refreshVoices() {
  const tags = speakersIn(form.elements.script.value);
  const wanted = tags.length ? tags : [null];
  while (state.voices.length > wanted.length) state.voices.pop().element.remove();
  wanted.forEach((tag, i) => {
    if (state.voices[i]) {
      if (state.voices[i].tag !== tag) state.voices[i].name(tag);
      return;
    }
    const row = new VoiceRow(tag, state.library);
    row.addEventListener("change", refresh);
    state.voices.push(row);
    $("voices").append(row.element);
  });
}

function refresh() {
  refreshVoices();
  const script = form.elements.script.value;
  const words = script.split(/\s+/).filter((word) => word && !/^\[SPEAKER\d+\]$/.test(word)).length;
  $("script-count").textContent = `${words} ${words === 1 ? "word" : "words"} · ${script.length} characters`;
  $("temperature-value").textContent = Number(form.elements.temperature.value) === 0 ? "0, greedy" : form.elements.temperature.value;
  $("top_p-value").textContent = form.elements.top_p.value;
  const input = currentJob().input;
  const changed = ["temperature", "top_p", "top_k", "seed", "max_new_tokens", "ras_win_len", "ras_win_max_num_repeat", "chunk_method", "response_format"];
  $("sampling-summary").textContent = changed.filter((name) => name in input).map((name) => `${name} ${input[name]}`).join(" · ") || "defaults";
  const text = { json: jsonText, curl: curlText }[state.shown];
  $("code").textContent = text(currentJob(), { short: true, withKey: state.needsKey });
}

function toDefaults() {
  const defaults = state.defaults;
  form.elements.temperature.value = defaults.temperature ?? 0.3;
  form.elements.top_p.value = defaults.top_p ?? 1;
  for (const name of ["top_k", "ras_win_len", "ras_win_max_num_repeat"]) {
    form.elements[name].value = "";
    form.elements[name].placeholder = defaults[name] ?? "off";
  }
  form.elements.seed.value = "";
  form.elements.max_new_tokens.value = "";
  form.elements.chunk_method.value = "auto";
  form.elements.response_format.value = defaults.response_format ?? "wav";
  refresh();
}

function useAgain(input) {
  form.elements.script.value = input.script ?? "";
  form.elements.scene_prompt.value = input.scene_prompt ?? "";
  toDefaults();
  for (const [name, value] of Object.entries(input)) {
    if (form.elements[name] && typeof value !== "object") form.elements[name].value = value;
  }
  refresh();
  form.elements.script.focus();
}

// ── one generation ─────────────────────────────────────────────────────────────────────────────────────────────────
async function generate() {
  if (!form.elements.script.value.trim()) {
    view.problem("Write the text that is to be spoken first.");
    form.elements.script.setAttribute("aria-invalid", "true");
    form.elements.script.focus();
    return;
  }
  form.querySelectorAll("[aria-invalid]").forEach(forgive);
  const job = currentJob();
  const format = job.input.response_format ?? state.defaults.response_format ?? "wav";
  const live = format === "wav";
  const running = new AbortController();
  state.running = running;
  setBusy(true);
  view.start();
  player.reset(24000);
  await player.unlock(24000).catch(() => {});
  try {
    const result = await receive(job, format, live, running.signal);
    view.done(result);
    await history.add(result);
    drawRecent(result.id);
  } catch (error) {
    if (error.name === "AbortError") view.stopped();
    else showProblem(error);
  } finally {
    if (state.running === running) state.running = null;
    setBusy(false);
  }
}

async function receive(job, format, live, signal) {
  const sent = { input: { ...job.input, stream: true, ...(live && { response_format: "pcm" }) } };
  const reader = new Pcm16Reader();
  const parts = [];
  let last = {};
  for await (const item of api.generate(sent, signal)) {
    if (item.audio_base64) {
      const bytes = base64ToBytes(item.audio_base64);
      parts.push(bytes);
      if (live) {
        const first = player.duration === 0;
        view.append(reader.read(bytes));
        if (first) await player.play();
      }
      view.phase(live ? `${clock(player.duration)} so far` : `${Math.ceil(parts.reduce((sum, part) => sum + part.length, 0) / 1024)} kB so far`);
    }
    last = { ...last, ...item };
  }
  const blob = live ? wavFromPcm16(parts, last.sampling_rate ?? 24000) : new Blob(parts, { type: last.mime_type });
  if (!live) {
    await view.load(blob);
    await player.play();
  }
  player.finish();
  const { audio_base64, ...facts } = last;
  const input = JSON.parse(JSON.stringify(job.input, (name, value) => (name === "references" || name === "speakers" ? undefined : value)));
  return { id: Date.now(), text: job.input.script, blob, suffix: format, input, facts };
}

function showProblem(error) {
  view.problem(error.message, error.hint);
  const field = error.field && form.elements[error.field];
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.closest("label")?.append(Object.assign(document.createElement("small"), { className: "wrong", textContent: error.message }));
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  }
  if (error.status === 401) {
    state.needsKey = true;
    askForKey(error.message);
  }
}

function forgive(field) {
  field.removeAttribute("aria-invalid");
  field.closest("label")?.querySelector(".wrong")?.remove();
}

function setBusy(busy) {
  $("generate").dataset.busy = String(busy);
  $("generate-label").textContent = busy ? "Stop" : "Speak";
}

// ── recent results ─────────────────────────────────────────────────────────────────────────────────────────────────
function drawRecent(current) {
  $("recent").replaceChildren(...history.items.map((item) => recentItem(item, item.id === current)));
  $("recent-empty").hidden = history.items.length > 0;
  $("clear").hidden = history.items.length === 0;
}

function recentItem(item, current) {
  const row = document.createElement("li");
  if (current) row.setAttribute("aria-current", "true");
  const button = (label, path, action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "icon-button";
    made.title = label;
    made.setAttribute("aria-label", `${label}: ${item.text.slice(0, 60)}`);
    made.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`;
    made.onclick = action;
    return made;
  };
  const about = document.createElement("div");
  about.className = "about";
  const text = document.createElement("p");
  text.textContent = item.text;
  const detail = document.createElement("p");
  detail.className = "faint";
  detail.textContent = [clock(item.facts.duration_seconds ?? 0), item.suffix.toUpperCase(), `seed ${item.facts.seed ?? "unknown"}`,
    new Date(item.id).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })].join(" · ");
  about.append(text, detail);
  const actions = document.createElement("div");
  actions.className = "item-actions";
  actions.append(button("Use this request again", "M4 12a8 8 0 1 0 2.5-5.8M4 4v4h4", () => useAgain(item.input)));
  row.append(
    button("Play", "M8 5v14l11-7z", async () => {
      if (state.running) return;
      drawRecent(item.id);
      await view.show(item);
      await player.play();
    }), about, actions);
  return row;
}

// ── server, key, theme ─────────────────────────────────────────────────────────────────────────────────────────────
async function connect() {
  let answer;
  try {
    answer = await api.ping();
  } catch {
    answer = { state: "failed", reason: "The server does not answer." };
  }
  $("status").dataset.state = answer.state;
  if (answer.state !== "ready") {
    $("status-text").textContent = answer.state === "loading" ? "The model is loading" : answer.reason;
    setTimeout(connect, 2000);
    return;
  }
  $("status-text").textContent = "Ready";
  await describe();
  setTimeout(connect, 30000);
}

async function describe() {
  if (state.described) return;
  try {
    const [models, voices] = await Promise.all([api.models(), api.voices()]);
    const model = models.data[0];
    state.described = true;
    state.model = model;
    state.defaults = model.defaults ?? {};
    state.library = voices.voices.filter((name) => name !== "default");
    state.voices.forEach((row) => row.setLibrary(state.library));
    $("notice").hidden = !model.notice;
    $("notice").textContent = model.notice ?? "";
    toDefaults();
  } catch (error) {
    if (error.status === 401) {
      state.needsKey = true;
      askForKey(error.message);
    }
  }
  $("status-text").textContent = state.model ? `Ready · ${state.model.id.split("/").at(-1)}` : "Ready";
  refresh();
}

function askForKey(reason) {
  if ($("key-dialog").open) return;
  if (reason) $("key-help").textContent = `${reason} It is kept until this tab is closed.`;
  $("key").value = api.key.get();
  $("key-dialog").showModal();
}

$("key-dialog").onclose = () => {
  if ($("key-dialog").returnValue !== "save") return;
  api.key.set($("key").value.trim());
  state.needsKey = state.needsKey || Boolean(api.key.get());
  view.clearProblem();
  describe();
};
$("key-button").onclick = () => askForKey();

function dark() {
  return (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}
$("theme-button").onclick = () => {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  localStorage.setItem("higgs-audio-theme", document.documentElement.dataset.theme);
  view.draw();
};

// ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────
form.onsubmit = (event) => {
  event.preventDefault();
  if (state.running) state.running.abort();
  else generate();
};
form.oninput = (event) => {
  forgive(event.target);
  refresh();
};
view.addEventListener("seed", (event) => {
  form.elements.seed.value = event.detail;
  $("sampling").open = true;
  refresh();
});
$("reset").onclick = toDefaults;
document.onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !state.running && !$("key-dialog").open) {
    event.preventDefault();
    generate();
  }
  if (event.key === "Escape" && state.running && !$("key-dialog").open) state.running.abort();
};

const tabs = { json: $("tab-json"), curl: $("tab-curl") };
function showTab(name) {
  state.shown = name;
  for (const [key, tab] of Object.entries(tabs)) {
    tab.setAttribute("aria-selected", String(key === name));
    tab.tabIndex = key === name ? 0 : -1;
  }
  $("code").setAttribute("aria-labelledby", `tab-${name}`);
  refresh();
}
for (const [name, tab] of Object.entries(tabs)) {
  tab.onclick = () => showTab(name);
  tab.onkeydown = (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = name === "json" ? "curl" : "json";
    showTab(other);
    tabs[other].focus();
  };
}
$("copy").onclick = async () => {
  const text = { json: jsonText, curl: curlText }[state.shown](currentJob(), { short: false, withKey: state.needsKey });
  try {
    await navigator.clipboard.writeText(text);
  } catch { // plain http on another machine: no clipboard interface
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1600);
};
$("clear").onclick = async () => {
  await history.clear();
  drawRecent();
};

for (const [name, example] of Object.entries(EXAMPLES)) {
  const chip = document.createElement("button");
  chip.type = "button";
  chip.textContent = name;
  chip.onclick = () => {
    form.elements.script.value = example.script;
    form.elements.scene_prompt.value = example.scene ?? "";
    refresh();
  };
  $("examples").append(chip);
}

const theme = localStorage.getItem("higgs-audio-theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
toDefaults();
await history.open();
drawRecent();
connect();
