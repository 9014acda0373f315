"""Another speed changes how long speech lasts, not how high it sounds, streamed or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from higgs_core.audio.ffmpeg_pipe import ffmpeg_path
from higgs_core.errors import RequestError
from higgs_core.speech.result import SpeechResult, SpokenPiece
from higgs_core.speech.speak import SpeechChunk
from serverless.service import time_stretch
from serverless.service.time_stretch import TimeStretch, check_speed, time_stretched, time_stretched_chunks

RATE = 24_000
needs_ffmpeg = pytest.mark.skipif(ffmpeg_path() is None, reason="needs ffmpeg")


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


@needs_ffmpeg
@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 3.0, 4.0])
def test_the_length_changes_and_the_pitch_does_not(speed: float) -> None:
    changed = time_stretched(result_of(tone(4)), speed)
    assert len(changed.audio) / RATE == pytest.approx(4 / speed, abs=0.12)
    assert pitch(changed.audio) == pytest.approx(300, abs=6)
    assert [piece.end_seconds for piece in changed.pieces] == [pytest.approx(2 / speed), pytest.approx(4 / speed)]


@needs_ffmpeg
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


def chunked(audio: NDArray[np.float32], step: int) -> Iterator[SpeechChunk]:
    for start in range(0, len(audio), step):
        yield SpeechChunk(audio[start : start + step], start, None)
    yield SpeechChunk(audio[:0], len(audio), result_of(audio))


def test_speed_1_changes_nothing() -> None:
    result = result_of(tone(0.1))
    assert time_stretched(result, 1) is result
    chunks = list(chunked(result.audio, 100))
    assert [id(chunk) for chunk in time_stretched_chunks(iter(chunks), 1)] == [id(chunk) for chunk in chunks]


@needs_ffmpeg
def test_stopping_early_closes_what_it_reads_from() -> None:
    source = chunked(tone(1), 2_000)
    stream = time_stretched_chunks(source, 0.5)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(source) == []


def test_without_ffmpeg_another_speed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_stretch, "ffmpeg_path", lambda: None)
    check_speed(1)
    with pytest.raises(RequestError, match=r"speed is 1\.5, which needs ffmpeg") as refused:
        TimeStretch(1.5)
    assert refused.value.field == "speed"
