"""Pitch-preserving time-stretch of generated audio, by ffmpeg's atempo filter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.ffmpeg_pipe import FfmpegPipe, ffmpeg_path
from higgs_core.errors import RequestError
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import SpeechChunk

_WIDEST_STEP = 2.0  # beyond it atempo leaves samples out instead of blending them, so several steps follow each other

_NONE = np.zeros(0, np.float32)


class TimeStretch:
    """float32 [n] in, the same speech `speed` times as fast out. `close` it in any case.

    Raises RequestError without ffmpeg, DeliveryError when ffmpeg fails.
    """

    def __init__(self, speed: float) -> None:
        check_speed(speed)
        steps = max(1, math.ceil(abs(math.log(speed, _WIDEST_STEP))))
        chain = ",".join([f"atempo={speed ** (1 / steps):.9f}"] * steps)
        self._pipe = FfmpegPipe(
            ffmpeg_path() or "",
            SAMPLING_RATE,
            ["-filter:a", chain, "-flush_packets", "1", "-f", "f32le"],
            what="changing the speed",
            remedy="Use speed 1.",
        )
        self._speed = speed
        self._incomplete = b""  # bytes of a sample whose rest is still to come
        self._unanswered: list[NDArray[np.float32]] | None = []  # what was written before anything came out

    def write(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that are ready by now, possibly none."""
        if self._unanswered is not None:
            self._unanswered.append(audio)
        return self._samples(self._pipe.write(audio))

    def finish(self) -> NDArray[np.float32]:
        """The samples that are left. Together they are at least one if any was written."""
        left = self._samples(self._pipe.finish())
        return left if self._unanswered is None else _squeezed(np.concatenate([_NONE, *self._unanswered]), self._speed)

    def close(self) -> None:
        self._pipe.close()

    def _samples(self, data: bytes) -> NDArray[np.float32]:
        data = self._incomplete + data
        whole = len(data) // 4 * 4
        self._incomplete = data[whole:]
        if whole:
            self._unanswered = None
        return np.frombuffer(data[:whole], "<f4").astype(np.float32, copy=False)


def _squeezed(audio: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Audio of a few hundredths of a second, out of which atempo makes nothing, at `speed` with its pitch changed."""
    if not len(audio):
        return audio
    places = np.arange(max(1, round(len(audio) / speed))) * speed
    squeezed: NDArray[np.float32] = np.interp(places, np.arange(len(audio)), audio).astype(np.float32)
    return squeezed


def check_speed(speed: float) -> None:
    """Raise RequestError for a speed that this machine cannot give, before anything is generated."""
    if speed != 1 and ffmpeg_path() is None:
        raise RequestError(
            f"speed is {speed:g}, which needs ffmpeg, and this worker has no ffmpeg.",
            field="speed",
            hint="Leave speed out, or use 1.",
        )


def time_stretched(result: SpeechResult, speed: float) -> SpeechResult:
    """The result with its audio and the times of its pieces at `speed`. Blocking. Raises as TimeStretch does."""
    if speed == 1:
        return result
    stream = TimeStretch(speed)
    try:
        audio = np.concatenate([stream.write(result.audio), stream.finish()])
    finally:
        stream.close()
    return _with_audio(result, audio, speed)


def time_stretched_chunks(chunks: Iterator[SpeechChunk], speed: float) -> Iterator[SpeechChunk]:
    """The chunks at `speed`, as they come; `time_stretched`'s audio in chunks. Closing it closes `chunks`."""
    return chunks if speed == 1 else _stretched(chunks, speed)


def _stretched(chunks: Iterator[SpeechChunk], speed: float) -> Iterator[SpeechChunk]:
    stream = TimeStretch(speed)
    stretched: list[NDArray[np.float32]] = []
    start = 0
    try:
        for chunk in chunks:
            audio = stream.finish() if chunk.result is not None else stream.write(chunk.audio)
            stretched.append(audio)
            if len(audio):
                yield SpeechChunk(audio, start, None)
            start += len(audio)
            if chunk.result is not None:
                result = _with_audio(chunk.result, np.concatenate(stretched), speed)
                yield SpeechChunk(np.zeros(0, np.float32), start, result)
    finally:
        stream.close()
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _with_audio(result: SpeechResult, audio: NDArray[Any], speed: float) -> SpeechResult:
    pieces = tuple(
        replace(piece, start_seconds=piece.start_seconds / speed, end_seconds=piece.end_seconds / speed)
        for piece in result.pieces
    )
    return replace(result, audio=audio, pieces=pieces)
