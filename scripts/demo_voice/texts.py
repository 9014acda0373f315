"""Texts to train on, each with its sounds: sentences of the domain, rows of random words, written forms, markup.

What a sentence means plays no part in how this voice says it, so most texts are words in any order: every word of the
vocabulary comes up, and no text is missed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scripts.demo_voice import domain
from scripts.demo_voice.codes import BASE, HIGH, LEVELS, LOW, PITCH
from scripts.demo_voice.inventory import PAUSES, Inventory, Sound
from scripts.demo_voice.lexicon import Lexicon
from scripts.demo_voice.source import PAUSE
from scripts.demo_voice.vocabulary import words
from scripts.demo_voice.written import Written, form

EVENTS = ("<SE>[Laughter]</SE>", "<SE>[Cough]</SE>", "<SE>[Applause]</SE>", "<SE>[Music]</SE>",
          "<SE_s>[Music]</SE_s>", "<SE_e>[Music]</SE_e>", "<SE_s>[Humming]</SE_s>")  # fmt: skip
_JUNK = ("#", "*", "/", "^", "~", "|", "->", "...", "--", "<>", "_", "\\", "§", "😀", "→", "{}", "•", "!?")
_MARKS = "\"'.,;:?! "
_DOMAIN, _NUMBERED = 0.2, 0.3
_FEWEST_WORDS, MOST_WORDS = 2, 13


@dataclass
class Text:
    """written: as a user sends it.  sounds: what is heard, with pauses.  levels, voices: pitch level and voice of each
    sound.  letters: for each sound the character of `written` that it is spoken from.  ends: the last character of the
    word, for each sound."""

    written: str = ""
    sounds: list[Sound] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    voices: list[int] = field(default_factory=list)
    letters: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def pause(self, kind: str, voice: int, at: int | None = None) -> None:
        """at: the character that stands for the pause; the last one by default."""
        place = max(len(self.written) - 1, 0) if at is None else at
        self.sounds.append(Sound(PAUSE, frames=PAUSES[kind]))
        self.levels.append(self.levels[-1] if self.levels else BASE)
        self.voices.append(voice)
        self.letters.append(place)
        self.ends.append(place)

    def codes(self, inventory: Inventory) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes [T, Q], and the number of the sound that each frame belongs to, [T]."""
        codes, owners = inventory.codes(self.sounds)
        codes[:, PITCH] = (np.array(self.voices) * LEVELS + np.array(self.levels))[owners]
        return codes, owners


class Writer:
    """Draws texts. rng: everything that is drawn comes from it."""

    def __init__(self, rng: random.Random, lexicon: Lexicon) -> None:
        self._rng = rng
        self._lexicon = lexicon
        self._words = words()

    def sentence(self, most_words: int = MOST_WORDS) -> list[Written]:
        """Tokens with the words that they stand for; the last one has the sentence's full stop or the like."""
        rng = self._rng
        if rng.random() < _DOMAIN:
            tokens: list[Written] = [(token, None) for token in domain.sentence(rng).split()]
            return tokens
        tokens = []
        length = rng.randint(_FEWEST_WORDS, most_words)
        numbered = rng.random() < _NUMBERED
        while len(tokens) < length:
            if numbered and rng.random() < 0.35:
                tokens += form(rng)
            else:
                tokens.append((self._word(), None))
        tokens = [self._decorated(token, at == 0) for at, token in enumerate(tokens)]
        written, spoken = tokens[-1]
        end = rng.choices((".", "?", "!", "...", ";"), (72, 15, 9, 2, 2))[0]
        if not (end == "." and written.endswith(".")):
            tokens[-1] = (written + end, spoken or written)
        return tokens

    def _word(self) -> str:
        share = self._rng.random()
        place = share if self._rng.random() < 0.45 else share**3 if self._rng.random() < 0.7 else share**6
        word = self._words[int(place * len(self._words))]
        return "I" + word[1:] if word in ("i", "i'm", "i'll", "i've", "i'd") else word

    def _decorated(self, token: Written, is_first: bool) -> Written:
        rng, (written, spoken) = self._rng, token
        if (is_first and rng.random() < 0.95) or rng.random() < 0.06:
            written, spoken = written[:1].upper() + written[1:], spoken or written
        chance = rng.random()
        if chance < 0.07 and not is_first:
            return written + rng.choice((",", ",", ",", ",", ",", ";", ":", " -")), spoken or written
        if chance < 0.08:
            mark = rng.choice("\"'")
            return mark + written + mark, spoken or written
        if chance < 0.09 and spoken is None:
            other = self._word()
            return f"{written}-{other}", f"{written} {other}"
        if chance < 0.1:
            return f"{written} {rng.choice(_JUNK)}", spoken or written
        return token if spoken is None and written == token[0] else (written, spoken)

    def add(self, text: Text, tokens: list[Written], voice: int) -> None:
        """Add a sentence: its pauses, and a pitch that starts high, falls at a full stop and rises at a question."""
        first_of_clause = True
        for number, (written, spoken) in enumerate(tokens):
            if number and not text.written.endswith(("\n", " ")):
                text.written += " "
            start = len(text.written)
            text.written += written
            core = written.split(" ")[0].strip(_MARKS)
            word = self._lexicon.word(core, (spoken or core).strip(_MARKS).replace("-", " "))
            last = number == len(tokens) - 1
            level = BASE
            if last:
                level = HIGH if "?" in written else LOW
            elif first_of_clause:
                level = HIGH
            at = start + written.find(core) if core else start
            for sound, letter in zip(word.sounds, word.letters, strict=True):
                accent = level == BASE and sound.stressed and len(word.sounds) > 4 and sound.phone[0] in "aeiou"
                text.sounds.append(sound)
                text.levels.append(HIGH if accent else level)
                text.voices.append(voice)
                text.letters.append(at + letter)
                text.ends.append(at + len(core) - 1)
            first_of_clause = False
            if not last and written.endswith((",", ";", ":", " -")):
                text.pause("comma", voice)
                first_of_clause = True

    def text(self, sentences: int, voice: int, tag: str, most_words: int) -> Text:
        """Several sentences with a tag before them, and sometimes a sound event, which stays silent."""
        rng = self._rng
        text = Text(written=tag)
        for number in range(sentences):
            if number:
                text.pause("sentence", voice)
                text.written += "\n" if rng.random() < 0.15 else " "
            elif tag:
                text.written += " "
            at = len(text.written)
            if rng.random() < 0.03:
                text.written += rng.choice(EVENTS)
                if number:
                    text.written += " "
                text.pause("sentence", voice)
            elif not number:
                text.pause("start", voice, at)
            self.add(text, self.sentence(most_words), voice)
        text.pause("end", voice)
        return text
