// Wires the parts of the page together.

import { Connection } from "./server/connection.js";
import { KeyDialog } from "./server/key_dialog.js";
import * as api from "./server/api.js";
import { Database } from "./storage/database.js";
import { Draft } from "./storage/draft.js";
import { History } from "./storage/history.js";
import { showExamples } from "./form/examples.js";
import { forgiveAll, showAt, showFieldError, speakerOf } from "./form/field_errors.js";
import { SpeechForm } from "./form/form.js";
import { scriptIn } from "./form/request.js";
import { firstInvalid } from "./form/settings.js";
import { SnippetCard } from "./form/snippet_card.js";
import { Stage } from "./results/stage.js";
import { startTheme } from "./theme.js";
import { VoicePanel } from "./voices/panel.js";

const $ = (id) => document.getElementById(id);
const connection = new Connection();
const keys = new KeyDialog();
const database = new Database();
const history = new History(database);
const form = new SpeechForm();
const draft = new Draft(form, database);
const voices = new VoicePanel(connection, form.choices, database);
const stage = new Stage(history, (snapshot) => form.input(snapshot));
let asksForKey = false;
const code = new SnippetCard(() => form.input(), () => asksForKey || Boolean(api.key.get()));

// ── speaking ───────────────────────────────────────────────────────────────────────────────────────────────────────
function speak() {
  if (stage.busy || connection.reason) return;
  const snapshot = form.snapshot();
  forgiveAll();
  stage.clearProblem();
  voices.previews.stop();
  if (!scriptIn(snapshot.text)) {
    showAt(form.text.control, "Write the text that is to be spoken first.");
    return;
  }
  const wrong = firstInvalid();
  if (wrong) showAt(wrong.control, wrong.message);
  else stage.speak(snapshot);
}

async function failed(error) {
  if (error.status === 401) locked(error.message);
  if (error.status === 0 || error.status >= 500) connection.check();
  const speaker = speakerOf(error.field, form.names);
  if (speaker !== null) {
    form.choices.active = speaker || (form.names[0] ?? "");
    await connection.describe(); // it may have been deleted in another tab
    if (voices.showGone()) return;
  }
  if (!showFieldError(error, form.text.control, form.names)) stage.problem(error.message, error.hint);
}

function locked(reason) {
  asksForKey = true;
  keys.ask(reason);
  code.refresh();
}

/** The button says what it does, and why it cannot. */
function showState() {
  const { reason } = connection;
  $("status").dataset.state = connection.state;
  $("status-text").textContent = connection.words;
  $("generate").dataset.busy = String(stage.busy);
  $("generate-label").textContent = stage.busy ? "Stop" : "Speak";
  $("generate").disabled = !stage.busy && reason !== null;
  $("speak-reason").hidden = reason === null;
  $("speak-reason").textContent = reason ?? "";
}

// ── what leads to what ─────────────────────────────────────────────────────────────────────────────────────────────
form.addEventListener("change", () => {
  voices.speakers = form.names;
  code.refresh();
  draft.changed();
});
stage.addEventListener("busy", showState);
stage.addEventListener("failed", ({ detail }) => failed(detail));
stage.addEventListener("seed", ({ detail }) => form.setSeed(detail));
stage.addEventListener("save", ({ detail }) => voices.saveResult(detail));
stage.addEventListener("again", ({ detail }) => {
  form.restore(detail);
  form.text.control.focus();
});
voices.previews.onplay = () => stage.pause();
connection.addEventListener("change", showState);
connection.addEventListener("locked", ({ detail }) => locked(detail));
connection.addEventListener("described", () => {
  form.setDefaults(connection.model.defaults ?? {});
  $("notice").hidden = !connection.model.notice;
  $("notice").textContent = connection.model.notice ?? "";
});
keys.addEventListener("saved", () => {
  stage.clearProblem();
  connection.describe();
});
$("form").onsubmit = (event) => {
  event.preventDefault();
  if (stage.busy) stage.stop();
  else speak();
};
document.onkeydown = (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    speak();
  }
  if (event.key === "Escape" && stage.busy) stage.stop();
};

startTheme(() => stage.redraw());
showExamples((example) => form.write(example));
await database.open();
await draft.restore();
await history.open();
form.text.restore(form.text.snapshot());
stage.drawRecent();
showState();
connection.start();
