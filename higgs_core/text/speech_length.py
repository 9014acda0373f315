"""How long a text may take to speak, estimated from the text alone. Imports no torch.

The estimate bounds a generation: the slowest of Boson AI's example voices takes 80 s for 100 words, the fastest 26 s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from higgs_core.text.markup import EVENT, INSTRUCTION
from higgs_core.text.speaker_tags import TAG

COLUMNS_PER_WORD = 25
"""More than the slowest voice needs for a word, which is 20."""

USUAL_COLUMNS_PER_WORD = 10
"""150 words a minute: a guess, where no bound is needed."""

ROOM_COLUMNS = 75
"""Added for every piece: silence before and after, and the columns of the delay pattern."""

_FEWEST_COLUMNS_PER_WORD = 2.5  # 600 words a minute; the fastest voice takes 6.4
MAX_PIECE_WORDS = 100
"""With more words in one generation the voice drifts and words are lost. A checkpoint may state fewer for itself."""

MAX_PIECE_COLUMNS = 2600
"""Decode steps of a piece at most. The slowest voice takes 2013 steps for MAX_PIECE_WORDS words, and the cap of such a
piece is COLUMNS_PER_WORD * MAX_PIECE_WORDS + ROOM_COLUMNS."""

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
SOUTH_EAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
CJK_WORDS = 0.5
"""A Chinese or Japanese character, in English words: two of them take about as long as one word."""

SOUTH_EAST_ASIAN_WORDS = 0.25

_HANGUL_WORDS = 1 / 3
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0dff"  # accents and vowel signs
_LETTERS_PER_WORD = 8  # a word of more letters counts as several
_DIGIT_WORDS = 1.5  # "1,234,567" is ten words, "$45.99" seven
_SPELLED_LETTER_WORDS = 0.5  # an abbreviation in capitals is perhaps spelled out

_TOKEN = re.compile(
    rf"(?P<cjk>[{CJK}])|(?P<asian>[{SOUTH_EAST_ASIAN}]+)|(?P<hangul>[\uac00-\ud7af]+)"
    r"|(?P<digits>\d+(?:[.,]\d+)*)|(?P<capitals>\b[A-Z]{2,6}\b)"
    rf"|(?P<letters>(?:(?![{CJK}{SOUTH_EAST_ASIAN}\uac00-\ud7af\d_])[\w'’{_MARKS}])+)"
    r"|(?P<symbol>[%‰$€£¥₹₩₽&@+=°§©№×÷]+)"
)
_SHORT_SOUNDS = frozenset({"[Laughter]", "[Cough]"})
_SHORT_SOUND_COLUMNS = 100
_LONG_SOUND_COLUMNS = 250  # music, humming, singing, applause


@dataclass(frozen=True)
class SpeechLength:
    """Decode steps that the speech of a text takes, one a column, at the least and at the most."""

    least: int
    most: int


def speech_length(text: str) -> SpeechLength | None:
    """The bounds for a text; None if it is blank or holds nothing but instructions."""
    spoken = INSTRUCTION.sub(" ", text)
    if not spoken.strip():
        return None
    columns = COLUMNS_PER_WORD * max(spoken_words(spoken), 1.0) + _sound_columns(spoken) + ROOM_COLUMNS
    return SpeechLength(int(_FEWEST_COLUMNS_PER_WORD * _fewest_words(spoken)), math.ceil(columns))


def spoken_words(text: str) -> float:
    """Length of a text in English words of usual length, by the time that it takes to speak.

    Speaker tags, sound events and instructions are not spoken and count nothing.
    """
    return sum(_words_of(token) for token in _spoken_tokens(text))


def timed_words(text: str) -> float:
    """`spoken_words` plus the sound events, as words of the same duration; proportional to a piece's columns."""
    return spoken_words(text) + _sound_columns(text) / COLUMNS_PER_WORD


def words_that_fit(columns: int, *, at_least: int, at_most: int = MAX_PIECE_WORDS) -> int:
    """The words of a piece that the slowest voice speaks within `columns`.

    at_least, at_most: bounds of the result; at_most wins where they contradict each other.
    """
    fitting = (columns - ROOM_COLUMNS) // COLUMNS_PER_WORD
    return min(max(fitting, at_least), at_most)


def _fewest_words(text: str) -> float:
    """The fewest words that a text may be spoken as: "1,000,000" as one or two, an abbreviation as one."""
    return sum(min(_words_of(token), 1.0) for token in _spoken_tokens(text) if token.lastgroup != "symbol")


def _spoken_tokens(text: str) -> Iterator[re.Match[str]]:
    if "<" in text:
        text = EVENT.sub(" ", INSTRUCTION.sub(" ", text))
    return _TOKEN.finditer(TAG.sub(" ", text) if "[" in text else text)


def _words_of(token: re.Match[str]) -> float:
    length = len(token[0])
    match token.lastgroup:
        case "cjk":
            return CJK_WORDS
        case "asian":
            return max(1.0, SOUTH_EAST_ASIAN_WORDS * length)
        case "hangul":
            return max(1.0, _HANGUL_WORDS * length)
        case "digits":
            return _DIGIT_WORDS * sum(character.isdigit() for character in token[0])
        case "capitals":
            return max(1.0, _SPELLED_LETTER_WORDS * length)
        case "letters":
            return max(1.0, length / _LETTERS_PER_WORD)
        case _:
            return 1.0


def _sound_columns(text: str) -> int:
    if "<" not in text:
        return 0
    sounds = [event["sound"] for event in EVENT.finditer(text) if event["kind"] != "SE_e"]
    return sum(_SHORT_SOUND_COLUMNS if sound in _SHORT_SOUNDS else _LONG_SOUND_COLUMNS for sound in sounds)
