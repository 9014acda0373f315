"""Speed and loudness of a request reach its audio, in that order, streamed or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from higgs_core.audio.loudness import CEILING_DB, amplified, amplitude, gain_to, integrated_loudness
from higgs_core.speech.result import SpeechResult, SpokenPiece
from higgs_core.speech.speak import SpeechChunk
from serverless.config.settings import Settings
from serverless.payload.parse import OutputOptions, parse_job
from serverless.service.effects import chunks_with_effects, with_effects

RATE = 24_000
_NONE = np.zeros(0, np.float32)


def output_of(**fields: Any) -> OutputOptions:
    return parse_job({"script": "Hello.", **fields}, Settings()).output


def voice(seconds: float) -> NDArray[np.float32]:
    """A tone whose level rises and falls as syllables do."""
    at = np.arange(int(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * 200 * at) * np.sin(2 * np.pi * 2 * at)).astype(np.float32)


def result_of(audio: NDArray[np.float32]) -> SpeechResult:
    seconds = len(audio) / RATE
    pieces = (SpokenPiece("a", 0.0, seconds / 2), SpokenPiece("b", seconds / 2, seconds))
    return SpeechResult(audio, RATE, [], "", [], {}, "stop", 1, {}, pieces, ("before",))


def chunked(audio: NDArray[np.float32], step: int) -> Iterator[SpeechChunk]:
    for start in range(0, len(audio), step):
        yield SpeechChunk(audio[start : start + step], start, None)
    yield SpeechChunk(audio[:0], len(audio), result_of(audio))


def streamed(audio: NDArray[np.float32], output: OutputOptions, *, live: bool = True) -> SpeechResult:
    """The result of a stream, once its chunks have been seen to be the result's audio."""
    chunks = list(chunks_with_effects(chunked(audio, 1_111), output, live=live))
    *parts, last = chunks
    joined = np.concatenate([part.audio for part in parts])
    assert last.result is not None
    assert all(part.result is None for part in parts)
    np.testing.assert_array_equal(joined, last.result.audio)
    assert [chunk.start_sample for chunk in chunks] == [0, *np.cumsum([len(part.audio) for part in parts])]
    return last.result


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.6, 4.0])
def test_a_stream_at_another_speed_is_the_whole_answer(speed: float) -> None:
    audio = voice(3)
    whole = with_effects(result_of(audio), output_of(speed=speed))
    assert len(whole.audio) == round(len(audio) / speed)
    assert [piece.end_seconds for piece in whole.pieces] == [
        pytest.approx(1.5 / speed, abs=1e-4),
        pytest.approx(3 / speed, abs=1e-4),
    ]
    in_parts = streamed(audio, output_of(speed=speed))
    np.testing.assert_array_equal(in_parts.audio, whole.audio)
    assert in_parts.pieces == whole.pieces


def test_without_effects_nothing_changes() -> None:
    result = result_of(voice(0.1))
    assert with_effects(result, output_of()) is result
    chunks = list(chunked(result.audio, 100))
    assert [id(chunk) for chunk in chunks_with_effects(iter(chunks), output_of())] == [id(chunk) for chunk in chunks]


def test_loudness_is_set_after_the_speed() -> None:
    whole = with_effects(result_of(voice(3)), output_of(speed=1.4, loudness=-24))
    assert integrated_loudness(whole.audio) == pytest.approx(-24, abs=0.01)
    at_speed = with_effects(result_of(voice(3)), output_of(speed=1.4)).audio
    found = gain_to(at_speed, -24)
    assert found is not None
    np.testing.assert_array_equal(whole.audio, amplified(at_speed, found[0]))
    assert whole.warnings == ("before",)


def test_a_stream_keeps_the_gain_of_its_beginning() -> None:
    audio = np.concatenate([voice(4), voice(4) * np.float32(0.5)])
    result = streamed(audio, output_of(loudness=-24))
    found = gain_to(audio[: 3 * RATE], -24)
    assert found is not None
    np.testing.assert_array_equal(result.audio, amplified(audio, found[0]))
    assert result.warnings == ("before",)


@pytest.mark.parametrize("speed", [1, 1.5])
def test_a_pause_before_the_first_word_leaves_at_once_and_is_no_part_of_what_is_measured(speed: float) -> None:
    """Without it, a tenth of a second of speech would set the gain."""
    audio, pause = voice(4), np.zeros(int(2.9 * RATE), np.float32)
    output = output_of(loudness=-24, speed=speed)
    given: list[SpeechChunk] = []

    def chunks() -> Iterator[SpeechChunk]:
        spoken = [SpeechChunk(each.audio, len(pause) + each.start_sample, None) for each in chunked(audio, 999)]
        result = replace(result_of(np.concatenate([pause, audio])), pauses=((0, len(pause)),))
        for chunk in (SpeechChunk(pause, 0, None, is_pause=True), *spoken, SpeechChunk(_NONE, 0, result)):
            given.append(chunk)
            yield chunk

    stream = chunks_with_effects(chunks(), output)
    first = next(stream)
    assert len(given) == 1
    np.testing.assert_array_equal(first.audio, pause)
    rest = np.concatenate([chunk.audio for chunk in stream])
    np.testing.assert_array_equal(rest, streamed(audio, output).audio)


def test_what_comes_at_the_end_anyhow_is_measured_as_a_whole() -> None:
    audio = np.concatenate([voice(4), voice(4) * np.float32(0.1)])
    output = output_of(loudness=-24, speed=0.8, response_format="flac", stream=True)
    result = streamed(audio, output, live=False)
    np.testing.assert_array_equal(result.audio, with_effects(result_of(audio), output).audio)


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_loudness_that_would_clip_is_missed_and_said(in_parts: bool) -> None:
    audio = voice(4)
    audio[RATE] = 0.9
    output = output_of(loudness=-12)
    result = streamed(audio, output) if in_parts else with_effects(result_of(audio), output)
    assert np.abs(result.audio).max() <= amplitude(CEILING_DB) + 1e-6
    before, warning = result.warnings
    assert before == "before"
    assert warning.endswith("LUFS instead of loudness -12: more would carry its peaks above -1 dB.")
    told = float(warning.split()[3])
    assert told == pytest.approx(integrated_loudness(result.audio), abs=0.3)


def test_a_peak_after_the_beginning_of_a_stream_is_lowered_and_said() -> None:
    audio = np.concatenate([voice(4), voice(4) * np.float32(4)])
    result = streamed(audio, output_of(loudness=-16))
    assert np.abs(result.audio).max() <= amplitude(CEILING_DB)
    assert result.warnings[1].startswith("Peaks after the first 3 s were lowered by up to ")


@pytest.mark.parametrize("in_parts", [False, True])
def test_silence_stays_as_it_is_and_that_is_said(in_parts: bool) -> None:
    silence = np.zeros(4 * RATE, np.float32)
    output = output_of(loudness=-20)
    result = streamed(silence, output) if in_parts else with_effects(result_of(silence), output)
    np.testing.assert_array_equal(result.audio, silence)
    assert result.warnings[1:] == ("loudness was ignored because nothing is heard in the speech.",)


@pytest.mark.parametrize("live", [False, True])
def test_stopping_early_closes_what_it_reads_from(live: bool) -> None:
    source = chunked(voice(1), 2_000)
    stream = chunks_with_effects(source, output_of(speed=0.5), live=live)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(source) == []
