"""How a word sounds, and which of its letters each sound belongs to.

The synthesiser pronounces; letters and sounds are aligned by dynamic programming with costs that are estimated from
the alignments themselves (hard expectation-maximisation). The language model's attention is guided along them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.demo_voice.inventory import Sound, sounds_of
from scripts.demo_voice.source import PAUSE, speak
from scripts.demo_voice.vocabulary import words

IN_SENTENCES = {"a": (Sound("ax", False, True),)}
"""Words that are spoken otherwise in a sentence than alone."""
_SAME_LETTER, _SKIPPED_LETTER, _UNSEEN = 2.0, 0.7, 6.0
_ROUNDS, _WORDS = 5, 6000


@dataclass(frozen=True)
class Word:
    """sounds: of one written word, which may be several spoken ones.  letters: for each sound its character."""

    sounds: tuple[Sound, ...]
    letters: tuple[int, ...]


class Lexicon:
    """costs: negative log probabilities of a phone given a letter, by "letter phone"."""

    def __init__(self, costs: dict[str, float]) -> None:
        self._costs = costs
        self._words: dict[tuple[str, str], Word] = {}

    def word(self, written: str, spoken: str | None = None) -> Word:
        """spoken: the words that a written form such as "$5" stands for; by default it is read as it is written."""
        key = written, spoken or written
        if key not in self._words:
            sounds = pronounce(key[1])
            letters = align(written.lower(), [sound.phone for sound in sounds], self._costs) if sounds else ()
            self._words[key] = Word(sounds, tuple(letters))
        return self._words[key]

    @classmethod
    def load(cls, folder: Path) -> Lexicon:
        """With costs kept in `folder`, estimated there at first."""
        kept = folder / "alignment.json"
        if not kept.is_file():
            kept.write_text(json.dumps(_estimate()))
        return cls(json.loads(kept.read_text()))


@cache
def pronounce(spoken: str) -> tuple[Sound, ...]:
    """The sounds of words, without pauses."""
    if spoken.lower() in IN_SENTENCES:
        return IN_SENTENCES[spoken.lower()]
    return tuple(sound for sound in sounds_of(speak(spoken).segments) if sound.phone != PAUSE)


def align(written: str, phones: list[str], costs: dict[str, float]) -> list[int]:
    """For each phone the index of its letter, never before that of the phone before it, at the least cost."""
    if not any(letter.isalpha() for letter in written) or len(phones) > 2 * len(written):
        return [at * len(written) // len(phones) for at in range(len(phones))]
    best = [(_SKIPPED_LETTER * at + _cost(costs, letter, phones[0]), [at]) for at, letter in enumerate(written)]
    for phone in phones[1:]:
        following = []
        for at, letter in enumerate(written):
            steps = [
                (cost + (_SAME_LETTER if before == at else _SKIPPED_LETTER * (at - before - 1)), path)
                for before, (cost, path) in enumerate(best[: at + 1])
            ]
            cost, path = min(steps, key=lambda step: step[0])
            following.append((cost + _cost(costs, letter, phone), [*path, at]))
        best = following
    ends = [(cost + _SKIPPED_LETTER * (len(written) - 1 - at), path) for at, (cost, path) in enumerate(best)]
    return min(ends, key=lambda end: end[0])[1]


def _cost(costs: dict[str, float], letter: str, phone: str) -> float:
    return costs.get(f"{letter} {phone}", _UNSEEN)


def _estimate() -> dict[str, float]:
    pairs = [(word, [sound.phone for sound in pronounce(word)]) for word in words()[:_WORDS]]
    costs: dict[str, float] = {}
    for number in range(_ROUNDS):
        counts: Counter[tuple[str, str]] = Counter()
        for word, phones in pairs:
            if number:
                letters = align(word, phones, costs)
            else:
                letters = [at * len(word) // len(phones) for at in range(len(phones))]
            counts.update((word[letter], phone) for letter, phone in zip(letters, phones, strict=True))
        totals: Counter[str] = Counter()
        for (letter, _), count in counts.items():
            totals[letter] += count
        costs = {f"{letter} {phone}": -math.log(n / totals[letter]) for (letter, phone), n in counts.items()}
    return costs
