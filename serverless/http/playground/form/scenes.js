// Styles: one press fills the scene, a second one empties it again.

const $ = (id) => document.getElementById(id);
const STYLES = {
  "Quiet room": "Audio is recorded from a quiet room.",
  "Bedtime story": "A calm bedtime story, spoken slowly and softly.",
  "Radio host": "A warm late-night radio show, close microphone.",
  "News": "A news studio. The speaker is clear, serious and steady.",
  "Excited": "An excited sports commentator in a full stadium.",
  "Whisper": "The speaker whispers close to the microphone in a silent room.",
  "Phone call": "A phone call. The voice sounds narrow and a little distant.",
  "Large hall": "A large church hall with long reverberation.",
};

export function showStyles() {
  for (const [name, scene] of Object.entries(STYLES)) {
    const chip = Object.assign(document.createElement("button"), { type: "button", textContent: name, title: scene });
    chip.onclick = () => {
      $("scene").value = $("scene").value === scene ? "" : scene;
      $("scene").dispatchEvent(new Event("input", { bubbles: true }));
    };
    $("styles").append(chip);
  }
}

/** Marks the style that the scene's words are. */
export function markStyle() {
  for (const chip of $("styles").children) chip.setAttribute("aria-pressed", String(chip.title === $("scene").value.trim()));
}
