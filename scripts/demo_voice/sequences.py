"""Training sequences: system turn, reference clips, earlier pieces and pieces, in the prompt layout of the engine.

P positions of a sequence, N of them audio columns; Q = 8 codebooks. A clip of T frames is T + 9 columns.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.speech.system_turn import MULTI_SPEAKER_PROMPT
from scripts.demo_voice.codes import (
    EOS,
    HIGH_VOICE,
    IGNORED,
    LEVELS,
    LOW_VOICE,
    PITCH,
    SPOKEN_BOOKS,
    UNIT,
    delayed,
)  # fmt: skip
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.texts import MOST_WORDS, Text, Writer

DEFAULT_SYSTEM = "Generate audio following instruction."
DEFAULT_SCENE = "Audio is recorded from a quiet room."
_DESCRIPTIONS = {
    LOW_VOICE: ("masculine", "a man", "male", "a low voice", "an old man with a deep voice"),
    HIGH_VOICE: ("feminine", "a woman", "female", "a high voice", "a young woman with a clear voice"),
}
_LONG_ENOUGH = 380
"""Positions after which no turn is added."""


@dataclass
class Sequence:
    """tokens: ids; -1 at audio columns.  columns: the audio columns in order, each [Q], and their targets.

    guides: for each column the position of the letter spoken in it, of the one in the next, and of that word's end; -1
    for none.  text_targets: (position, token that follows).
    """

    tokens: list[int] = field(default_factory=list)
    columns: list[NDArray[np.int64]] = field(default_factory=list)
    targets: list[NDArray[np.int64]] = field(default_factory=list)
    guides: list[NDArray[np.int64]] = field(default_factory=list)
    text_targets: list[tuple[int, int]] = field(default_factory=list)


class Sequences:
    """Draws sequences."""

    def __init__(self, tokenizer: HiggsTokenizer, inventory: Inventory, writer: Writer, rng: random.Random) -> None:
        self._tokenizer, self._inventory, self._writer, self._rng = tokenizer, inventory, writer, rng
        self._control = tokenizer.control

    def draw(self, several: float) -> Sequence:
        """several: the share of sequences with more than one turn or sentence. At first it is 0, so that the model
        learns to read before it learns to wait its turn."""
        rng = self._rng
        self._sequence = Sequence(tokens=[self._control.begin_of_text])
        self._voices: dict[str, int] = {}
        self._last: int | None = None
        if rng.random() > several:
            if rng.random() < 0.1:
                self._system(False)
            self._piece(False, 1, MOST_WORDS)
            return self._sequence
        is_dialogue = rng.random() < 0.45
        self._system(is_dialogue)
        if rng.random() < 0.4:
            for _ in range(rng.choice((1, 1, 1, 2))):
                self._reference(is_dialogue)
        for _ in range(rng.choice((1, 1, 2, 3))):
            sentences = rng.choice((1, 1, 1, 2, 2, 3, 4))
            self._piece(is_dialogue, sentences, MOST_WORDS if sentences == 1 else rng.choice((4, 6, 9)))
            if len(self._sequence.tokens) > _LONG_ENOUGH:
                break
        return self._sequence

    def _system(self, is_dialogue: bool) -> None:
        rng = self._rng
        if is_dialogue and rng.random() < 0.6:
            count = rng.choice((2, 2, 3))
            voices = [HIGH_VOICE if number % 2 == 0 else LOW_VOICE for number in range(count)]
            if rng.random() < 0.4:
                rng.shuffle(voices)
            lines = [f"SPEAKER{number}: {rng.choice(_DESCRIPTIONS[voice][:1 if rng.random() < 0.6 else None])}"
                     for number, voice in enumerate(voices)]  # fmt: skip
            scene = [DEFAULT_SCENE, ""] if rng.random() < 0.7 else []
            self._voices = {f"SPEAKER{number}": voice for number, voice in enumerate(voices)}
            self._scene(MULTI_SPEAKER_PROMPT if rng.random() < 0.8 else DEFAULT_SYSTEM, "\n".join([*scene, *lines]))
            return
        chance = rng.random()
        if chance < 0.2:
            return
        if chance < 0.6:
            self._scene(DEFAULT_SYSTEM, DEFAULT_SCENE)
        elif chance < 0.68:
            self._scene(DEFAULT_SYSTEM, "")
        elif chance < 0.76:
            voice = rng.choice((LOW_VOICE, HIGH_VOICE))
            self._last = voice
            words = rng.choice(_DESCRIPTIONS[voice])
            said = rng.choice((f"The speaker is {words}.", f"SPEAKER0: {words}", f"{words.capitalize()} speaks."))
            self._voices["SPEAKER0"] = voice
            self._scene(DEFAULT_SYSTEM, said if rng.random() < 0.5 else f"{DEFAULT_SCENE}\n\n{said}")
        else:
            scene = " ".join(written for written, _ in self._writer.sentence())
            self._scene(DEFAULT_SYSTEM if rng.random() < 0.8 else scene, scene if rng.random() < 0.8 else "")

    def _scene(self, prompt: str, scene: str) -> None:
        self._header("system")
        self._text(prompt)
        if scene:
            self._text("\n\n")
            self._sequence.tokens.append(self._control.scene_start)
            self._text(f"\n{scene}\n")
            self._sequence.tokens.append(self._control.scene_end)
        self._sequence.tokens.append(self._control.end_of_turn)

    def _reference(self, is_dialogue: bool) -> None:
        """A clip in a turn of its own: codes as an encoder hears them, its transcript right or only a name."""
        rng = self._rng
        tag = rng.choice(("SPEAKER0", "SPEAKER1")) if is_dialogue else ""
        voice = rng.choice((LOW_VOICE, HIGH_VOICE))
        text = self._writer.text(rng.choice((1, 1, 2)), voice, f"[{tag}]" if tag else "", 6)
        self._voices[tag], self._last = voice, voice
        is_named_only = rng.random() < 0.2
        self._user(f"[{tag}] Reference sample 1." if is_named_only and tag else "Reference sample 1." if is_named_only
                   else text.written)  # fmt: skip
        codes, _ = text.codes(self._inventory)
        wrong = np.random.default_rng(rng.getrandbits(32)).random(codes.shape)
        noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 1024, codes.shape)
        share = rng.choice((0.0, 0.2, 0.5))
        pitch = codes[:, PITCH].copy()
        codes = np.where(wrong < share, noise, codes)
        codes[:, PITCH] = np.where(wrong[:, PITCH] < share / 2, noise[:, PITCH] % (2 * LEVELS), pitch)
        self._assistant(codes, learned=False)

    def _piece(self, is_dialogue: bool, sentences: int, most_words: int) -> None:
        """A turn that is learned; in a dialogue sometimes with several speakers in it."""
        rng = self._rng
        if is_dialogue and sentences > 1 and rng.random() < 0.6:
            text = Text()
            for number in range(sentences):
                tag, voice = self._speaker()
                one = self._writer.text(1, voice, f"[{tag}]", most_words)
                _join(text, one, ("\n" if rng.random() < 0.8 else " ") if number else "")
        else:
            tag, voice = self._speaker() if is_dialogue else ("", self._untagged())
            text = self._writer.text(sentences, voice, f"[{tag}]" if tag else "", most_words)
        self._last = text.voices[-1]
        start = self._user(text.written)
        # Letters are characters; positions are bytes, and a sound event is a token.
        places = self._places(text.written)
        codes, owners = text.codes(self._inventory)
        letters = start + places[np.array(text.letters)][owners]
        ends = start + places[np.array(text.ends)][owners]
        self._assistant(codes, learned=True, letters=letters, ends=ends)

    def _speaker(self) -> tuple[str, int]:
        number = self._rng.choice((0, 0, 1, 1, 2))
        tag = f"SPEAKER{number}"
        voice = self._voices.setdefault(tag, HIGH_VOICE if number % 2 == 0 else LOW_VOICE)
        return tag, voice

    def _untagged(self) -> int:
        return LOW_VOICE if self._last is None else self._last

    def _header(self, role: str) -> None:
        control = self._control
        self._sequence.tokens.append(control.start_header)
        self._text(role)
        self._sequence.tokens.append(control.end_header)
        self._text("\n\n")

    def _text(self, text: str) -> None:
        self._sequence.tokens += self._tokenizer.encode(text)

    def _user(self, text: str) -> int:
        """A user turn; returns the position of the text's first token."""
        self._header("user")
        start = len(self._sequence.tokens)
        self._text(text)
        self._sequence.tokens.append(self._control.end_of_turn)
        return start

    def _places(self, text: str) -> NDArray[np.int64]:
        """For each character the number of its token."""
        if text.isascii() and "<" not in text:
            return np.arange(len(text))
        places: list[int] = []
        token = 0
        while len(places) < len(text):
            at = len(places)
            event = text[at : text.find(">", at) + 1] if text[at] == "<" else ""
            if event and len(self._tokenizer.encode(event)) == 1:
                places += [token] * len(event)
                token += 1
            else:
                places.append(token)
                token += len(text[at].encode())
        return np.array(places)

    def _assistant(
        self,
        codes: NDArray[np.int64],
        *,
        learned: bool,
        letters: NDArray[np.int64] | None = None,
        ends: NDArray[np.int64] | None = None,
    ) -> None:
        sequence, control = self._sequence, self._control
        self._header("assistant")
        if learned:
            sequence.text_targets.append((len(sequence.tokens) - 1, control.audio_out_bos))
        sequence.tokens.append(control.audio_out_bos)
        columns = delayed(codes)
        targets = np.full_like(columns, IGNORED)
        guides = np.full((len(columns), 3), -1)
        if learned and letters is not None and ends is not None:
            frames = len(codes)
            for book in SPOKEN_BOOKS:
                targets[book : book + frames, book] = codes[:, book]
            targets[frames, UNIT] = EOS
            guides[1 : frames + 1, 0] = letters
            guides[:frames, 1] = letters
            guides[:frames, 2] = ends
        sequence.columns += list(columns)
        sequence.targets += list(targets)
        sequence.guides += list(guides)
        sequence.tokens += [-1] * len(columns)
        sequence.tokens.append(control.audio_eos)
        if learned:
            sequence.text_targets.append((len(sequence.tokens) - 1, control.end_of_turn))
        sequence.tokens.append(control.end_of_turn)


def _join(text: Text, other: Text, separator: str) -> None:
    """Add a text after another one; the pause at the end of the first becomes the one between sentences."""
    if text.written:
        for values in (text.sounds, text.levels, text.voices, text.letters, text.ends):
            values.pop()
        text.pause("sentence", text.voices[-1])
        for values in (other.sounds, other.levels, other.voices, other.letters, other.ends):
            values.pop(0)
    offset = len(text.written) + len(separator)
    text.written += separator + other.written
    text.sounds += other.sounds
    text.levels += other.levels
    text.voices += other.voices
    text.letters += [at + offset for at in other.letters]
    text.ends += [at + offset for at in other.ends]
