"""The judge of the demo voice: which words count as heard, its language model, and what it makes of no speech."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from scripts.demo_voice.bigram import END, START, arpa
from scripts.demo_voice.judge import RATE, Judge, resampled, utterances
from scripts.demo_voice.scoring import fewest_word_errors, normalised, right_words, word_error_rate, word_errors
from tests.helpers.pitch import median_pitch


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[SPEAKER0] It's well-known, isn't it?", "it's well known isn't it"),
        ("It is 10:45.", "it is ten forty five"),
        ("$42.50 on the 3rd", "forty two dollars and fifty cents on the third"),
        ("1,000 or 1.5%", "one thousand or one point five percent"),
        ("That’s all! [laugh]", "that's all"),
        ("g. p. u.", "g p u"),
    ],
)
def test_text_becomes_the_words_that_are_said(text: str, words: str) -> None:
    assert normalised(text) == words.split()


@pytest.mark.parametrize(
    ("expected", "heard", "errors"),
    [
        ("The sun is warm.", "the sun is warm", 0),
        ("The sun is warm.", "the son is warm", 0),  # sounds the same
        ("I cannot see it.", "i can not see it", 0),
        ("I can not see it.", "i cannot see it", 0),
        ("The grey cat", "the gray cat", 0),
        ("The sun is warm.", "the sun warm", 1),
        ("The sun is warm.", "the the sun is warm", 1),
        ("The sun is warm.", "a moon is warm", 2),
        ("The sun is warm.", "", 4),
        ("", "the sun", 2),
    ],
)
def test_errors_are_the_words_that_sound_different(expected: str, heard: str, errors: int) -> None:
    assert word_errors(expected, heard.split()) == (errors, len(expected.split()))


def test_of_several_readings_the_nearest_counts() -> None:
    readings = ("forty two dollars fifty cents", "forty two dollars and fifty cents")
    assert fewest_word_errors(readings, ["forty", "two", "dollars", "and", "fifty", "cents"]) == (0, 6)


def test_the_rate_is_over_all_words() -> None:
    assert word_error_rate([("one two three", ["one", "two", "three"]), ("four", ["five"])]) == 1 / 4
    assert word_error_rate([]) == 0


def test_each_word_is_right_or_wrong_in_its_place() -> None:
    assert right_words(["we", "met", "at", "noon"], ["we", "at", "new", "noon"]) == [True, False, True, True]


def test_the_bigrams_are_distributions() -> None:
    lines = arpa([["a", "b"], ["a", "c"], ["b", "a", "b"]]).splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line]
    single = {row[1]: (float(row[0]), float(row[2])) for row in rows if len(row) == 3}
    pairs = {tuple(row[1].split()): float(row[0]) for row in rows if len(row) == 2}
    assert f"ngram 1={len(single)}" in lines
    assert f"ngram 2={len(pairs)}" in lines

    def probability(left: str, right: str) -> float:
        if (left, right) in pairs:
            return 10 ** pairs[left, right]
        return 10 ** (single[left][1] + single[right][0])

    words = [word for word in single if word != START]
    for left in [START, *(word for word in words if word != END)]:
        assert math.isclose(sum(probability(left, right) for right in words), 1, abs_tol=2e-3), left
    assert all(probability(*pair) < 1 for pair in itertools.product([START, "a"], words))


def test_silence_is_no_word() -> None:
    judge = Judge("domain")
    assert judge.hear(np.zeros(24_000, np.float32), 24_000) == []
    assert judge.hear(np.zeros(0, np.int16), 24_000) == []


def test_resampling_keeps_the_tone_and_its_level() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resampled(tone, 24_000, 16_000), expected, atol=1e-9)


def test_an_utterance_ends_where_it_is_quiet() -> None:
    word, pause = np.sin(np.arange(RATE) * 0.3), np.zeros(RATE // 2)
    parts = utterances(np.concatenate([pause, word, pause, word, pause]))
    assert len(parts) == 2
    assert sum(map(len, parts)) == RATE * 2 + 3 * (RATE // 2)
    assert len(utterances(np.concatenate([word, pause[: RATE // 10], word]))) == 1


@pytest.mark.parametrize("pitch", [90, 150, 220, 350])
def test_a_voices_pitch_is_measured_within_an_octave_and_more(pitch: int) -> None:
    seconds = np.arange(24_000) / 24_000
    voice = sum(np.sin(2 * np.pi * pitch * harmonic * seconds) / harmonic for harmonic in range(1, 8))
    assert median_pitch(np.asarray(voice)) == pytest.approx(pitch, rel=0.02)
