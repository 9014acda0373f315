"""How many words of what should be said were not heard.

Word errors are the least substitutions, insertions and deletions that turn one list of words into the other
(Levenshtein over words). Words that sound the same are the same here, since nobody hears a spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from num2words import num2words
from pocketsphinx import get_model_path

Pronunciation = tuple[str, ...]
_STEPS = ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
"""How many expected and heard words may be the same sounds together, such as "can not" and "cannot"."""


@dataclass(frozen=True)
class Aligned:
    """Expected words beside what was heard in their place. Either is empty where there is nothing opposite."""

    expected: tuple[str, ...]
    heard: tuple[str, ...]
    right: bool


def normalised(text: str) -> list[str]:
    """The lower-case words of `text` as they are said: numbers in words, hyphens apart, no tags and no punctuation."""
    text = re.sub(r"\[[^\]]*\]", " ", text.lower().replace("’", "'"))
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\$(\d+)(?:\.(\d\d))?", _dollars, text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda number: num2words(int(number[1]), to="ordinal"), text)
    text = re.sub(r"(\d{1,2}):(\d\d)", r"\1 \2", text).replace("%", " percent ").replace("&", " and ")
    text = re.sub(r"\d+(?:\.\d+)?", lambda number: f" {num2words(number[0])} ", text)
    words = (word.strip("'") for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.replace(".", " ")))
    return [word for word in words if word]


def _dollars(amount: re.Match[str]) -> str:
    cents = f" and {amount[2]} cents" if amount[2] else ""
    return f"{amount[1]} dollars{cents}"


@cache
def _dictionary() -> dict[str, frozenset[Pronunciation]]:
    found: dict[str, set[Pronunciation]] = {}
    with open(get_model_path("en-us/cmudict-en-us.dict"), encoding="utf-8") as lines:
        for line in lines:
            entry, *phones = line.split()
            found.setdefault(entry.partition("(")[0].strip("."), set()).add(tuple(phones))
    return {word: frozenset(ways) for word, ways in found.items()}


@cache
def pronunciations(words: tuple[str, ...]) -> frozenset[Pronunciation]:
    """Every way to say `words` one after the other; empty where one of them is not in the dictionary."""
    ways = product(*(_dictionary().get(word, frozenset()) for word in words))
    return frozenset(tuple(phone for part in way for phone in part) for way in ways)


def _same(expected: tuple[str, ...], heard: tuple[str, ...]) -> bool:
    return "".join(expected) == "".join(heard) or not pronunciations(expected).isdisjoint(pronunciations(heard))


def align(expected: Sequence[str], heard: Sequence[str]) -> list[Aligned]:
    """The alignment of two lists of normalised words with the fewest errors and, of those, the most right words."""
    # best[i][j]: errors and right words (negative) of the first i expected and j heard, and the step that led here
    best = [[(0, 0, 0, 0)] * (len(heard) + 1) for _ in range(len(expected) + 1)]
    for i, j in product(range(len(expected) + 1), range(len(heard) + 1)):
        ways = []
        for di, dj in ((1, 0), (0, 1), *_STEPS):
            if di > i or dj > j:
                continue
            same = bool(di and dj) and _same(tuple(expected[i - di : i]), tuple(heard[j - dj : j]))
            if same or max(di, dj) == 1:
                errors, right, _, _ = best[i - di][j - dj]
                ways.append((errors + (not same), right - di * same, di, dj))
        best[i][j] = min(ways, default=(0, 0, 0, 0))
    aligned = []
    i, j = len(expected), len(heard)
    while i or j:
        _, _, di, dj = best[i][j]
        left, right = tuple(expected[i - di : i]), tuple(heard[j - dj : j])
        aligned.append(Aligned(left, right, bool(left and right) and _same(left, right)))
        i, j = i - di, j - dj
    return aligned[::-1]


def right_words(expected: Sequence[str], heard: Sequence[str]) -> list[bool]:
    """For each of the `expected` words whether it was heard in its place; both are normalised words."""
    return [part.right for part in align(expected, heard) for _ in part.expected]


def word_errors(expected: str, heard: Sequence[str]) -> tuple[int, int]:
    """(errors, words): how many words are wrong, and how many words `expected` has."""
    words = normalised(expected)
    wrong = sum(not part.right for part in align(words, normalised(" ".join(heard))))
    return wrong, len(words)


def fewest_word_errors(readings: Iterable[str], heard: Sequence[str]) -> tuple[int, int]:
    """(errors, words) of the reading that fits best what was heard."""
    return min((word_errors(reading, heard) for reading in readings), key=lambda found: found[0] / max(found[1], 1))


def word_error_rate(pairs: Iterable[tuple[str, Sequence[str]]]) -> float:
    """Errors a word over all pairs of what should be said and what was heard; 0 for no words."""
    found = [word_errors(expected, heard) for expected, heard in pairs]
    return sum(errors for errors, _ in found) / max(sum(words for _, words in found), 1)
