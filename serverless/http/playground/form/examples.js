// Texts to begin with.

const $ = (id) => document.getElementById(id);
const EXAMPLES = {
  Greeting: { text: { script: "Hello, and welcome. It is good to hear from you again." } },
  Conversation: {
    text: {
      mode: "turns",
      turns: [
        { speaker: "Alice", text: "Did you hear the storm last night?" },
        { speaker: "Ben", text: "Hear it? I thought the roof was leaving without us." },
        { speaker: "Alice", text: "It nearly did!" },
      ],
    },
    scene: "Two friends talk in a quiet kitchen.",
  },
  Story: {
    text: {
      script:
        "The lighthouse had been dark for eleven years when the lamp came on by itself. Nobody in the village said a word about it. They simply set one more place at the table, and waited.",
    },
    scene: "A calm bedtime story, spoken slowly and softly.",
  },
};

/** take(example): puts {text, scene?} into the form. */
export function showExamples(take) {
  for (const [name, example] of Object.entries(EXAMPLES)) {
    const chip = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    chip.onclick = () => take(example);
    $("examples").append(chip);
  }
}
