"""Another speed changes how long speech lasts, not how high it sounds, streamed or not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from higgs_core.speech.result import SpeechResult, SpokenPiece
from higgs_core.speech.speak import SpeechChunk
from serverless.service.time_stretch import time_stretched, time_stretched_chunks

RATE = 24_000


def tone(seconds: float, hertz: float = 300) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def result_of(audio: NDArray[np.float32]) -> SpeechResult:
    seconds = len(audio) / RATE
    pieces = (SpokenPiece("a", 0.0, seconds / 2), SpokenPiece("b", seconds / 2, seconds))
    return SpeechResult(audio, RATE, [], "", [], {}, "stop", 1, {}, pieces, ())


def pitch(audio: NDArray[np.float32]) -> float:
    middle = audio[len(audio) // 4 : -len(audio) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(np.argmax(spectrum)) * RATE / len(middle)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 3.0, 4.0])
def test_the_length_changes_and_the_pitch_does_not(speed: float) -> None:
    changed = time_stretched(result_of(tone(4)), speed)
    assert len(changed.audio) == round(4 * RATE / speed)
    assert pitch(changed.audio) == pytest.approx(300, abs=6)
    first, last = changed.pieces
    assert last.end_seconds == pytest.approx(len(changed.audio) / RATE)
    assert first.end_seconds == last.start_seconds == pytest.approx(last.end_seconds / 2)


@pytest.mark.parametrize("speed", [0.7, 1.6])
def test_chunks_joined_are_the_whole(speed: float) -> None:
    audio = tone(3) * np.linspace(0.1, 1, 3 * RATE, dtype=np.float32)
    whole = time_stretched(result_of(audio), speed)
    chunks = list(time_stretched_chunks(chunked(audio, 1_111), speed))
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in chunks]), whole.audio)
    assert [chunk.start_sample for chunk in chunks[1:]] == list(np.cumsum([len(c.audio) for c in chunks])[:-1])
    assert [chunk.result is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].result is not None
    np.testing.assert_array_equal(chunks[-1].result.audio, whole.audio)


def paused() -> SpeechResult:
    """A second of pause, a second of one tone, 1.5 s of pause, half a second of another tone, and a short pause."""
    audio = np.concatenate([np.zeros(RATE), tone(1), np.zeros(36_000), tone(0.5, 440), np.zeros(2_400)])
    pauses = ((0, 24_000), (48_000, 84_000), (96_000, 98_400))
    pieces = (SpokenPiece("a", 1.0, 2.0), SpokenPiece("b", 3.5, 4.0))
    return SpeechResult(audio.astype(np.float32), RATE, [], "", [], {}, "stop", 1, {}, pieces, (), pauses=pauses)


@pytest.mark.parametrize("speed", [0.5, 1.7])
def test_a_pause_lasts_as_long_at_any_speed_and_stays_exact_silence(speed: float) -> None:
    changed = time_stretched(paused(), speed)
    assert [stop - start for start, stop in changed.pauses] == [24_000, 36_000, 2_400]
    for start, stop in changed.pauses:
        assert not changed.audio[start:stop].any()
    (_, begin), (end, again), (last, whole) = changed.pauses
    assert [(piece.start_seconds * RATE, piece.end_seconds * RATE) for piece in changed.pieces] == [
        pytest.approx((begin, end)),
        pytest.approx((again, last)),
    ]
    assert whole == len(changed.audio)
    assert end - begin == round(24_000 / speed)
    assert last - again == round(12_000 / speed)


def test_a_stream_with_pauses_is_the_whole_answer() -> None:
    result, speed = paused(), 1.7

    def chunks() -> Iterator[SpeechChunk]:
        edges = [0, 24_000, 31_000, 48_000, 84_000, 96_000, 98_400]
        for start, end in itertools.pairwise(edges):
            yield SpeechChunk(result.audio[start:end], start, None, is_pause=(start, end) in result.pauses)
        yield SpeechChunk(result.audio[:0], len(result.audio), result)

    whole, stream = time_stretched(result, speed), list(time_stretched_chunks(chunks(), speed))
    np.testing.assert_array_equal(np.concatenate([chunk.audio for chunk in stream]), whole.audio)
    assert [(c.start_sample, c.start_sample + len(c.audio)) for c in stream if c.is_pause] == list(whole.pauses)
    assert [chunk.start_sample for chunk in stream[1:]] == list(np.cumsum([len(c.audio) for c in stream])[:-1])
    assert stream[-1].result is not None
    np.testing.assert_array_equal(stream[-1].result.audio, whole.audio)
    assert stream[-1].result.pieces == whole.pieces


def chunked(audio: NDArray[np.float32], step: int) -> Iterator[SpeechChunk]:
    for start in range(0, len(audio), step):
        yield SpeechChunk(audio[start : start + step], start, None)
    yield SpeechChunk(audio[:0], len(audio), result_of(audio))


def test_speed_1_changes_nothing() -> None:
    result = result_of(tone(0.1))
    assert time_stretched(result, 1) is result
    chunks = list(chunked(result.audio, 100))
    assert [id(chunk) for chunk in time_stretched_chunks(iter(chunks), 1)] == [id(chunk) for chunk in chunks]


def test_stopping_early_closes_what_it_reads_from() -> None:
    source = chunked(tone(1), 2_000)
    stream = time_stretched_chunks(source, 0.5)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(source) == []
