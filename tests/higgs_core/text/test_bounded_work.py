"""The work on a text grows as the text does, whatever it holds: counted in characters that are looked at."""

from __future__ import annotations

import pytest

from higgs_core.text.chunking import ChunkMethod, cut, written_words
from higgs_core.text.normalize import normalize
from higgs_core.text.speech_length import speech_length, timed_words

UNITS = {
    "digits": "1",
    "spaced digits": "1 ",
    "brackets": "[",
    "closing brackets": ")",
    "spaces": " ",
    "lines": "\n",
    "full stops": ".",
    "initials": "A.",
    "commas": "，",
    "dots": "…",
    "degrees": "°F",
    "letters": "a",
    "words": "word ",
    "capitals": "AB ",
    "sentences": "It ends. ",
    "Chinese": "中",
    "Chinese brackets": "《中",
    "Thai": "ก",
    "Korean": "한",
    "combining marks": "e\u0301",
    "right to left": "\u202e\u05d0 ",
    "zero width": "\u200b",
    "emoji": "\U0001f469\u200d\U0001f4bb",
    "null characters": "\0",
    "tags": "[SPEAKER1] a ",
    "sounds": "[laugh]",
    "events": "<SE>[Laughter]</SE>",
    "event starts": "<SE>",
    "instruction starts": "<|generation_instruction_start|>",
    "instructions": "<|generation_instruction_start|>a<|generation_instruction_end|> b ",
}


def measured(script: str, method: ChunkMethod, *, whole_words: bool) -> int:
    """The characters that a cut measures; joined, the pieces are the script without white space."""
    looked_at = 0

    def measure(token: str) -> float:
        nonlocal looked_at
        looked_at += len(token)
        return written_words(token) if whole_words else timed_words(token)

    pieces = cut(script, method, 20, measure=measure, inside_words=not whole_words)
    assert "".join("".join(pieces).split()) == "".join(script.split())
    return looked_at


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("method", ["auto", "word", "sentence", "speaker"])
def test_a_cut_measures_each_character_a_bounded_number_of_times(method: ChunkMethod, unit: str) -> None:
    for whole_words in (False, True):
        once, twice = (
            measured("a " + unit * (characters // len(unit)), method, whole_words=whole_words)
            for characters in (1_500, 3_000)
        )
        assert twice <= 2.4 * once + 1_000
        assert twice <= 60 * 3_000


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_the_text_rules_write_at_most_a_constant_for_each_character(unit: str) -> None:
    script = unit * (3_000 // len(unit))
    assert len(normalize(script)) <= 9.5 * len(script) + 1


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_any_text_has_a_length_that_grows_with_it(unit: str) -> None:
    once, twice = (speech_length("a " + unit * (characters // len(unit))) for characters in (1_500, 3_000))
    assert once is not None
    assert twice is not None
    assert 0 <= once.least <= once.most
    assert once.most <= twice.most <= 2 * once.most + 200
