"""Pitch-preserving time-stretch of generated audio, by ffmpeg's atempo filter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain

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
    """The result with its audio and the times of its pieces at `speed`; a pause lasts as long as before.

    Blocking. Raises as TimeStretch does.
    """
    if speed == 1:
        return result
    starts = [0, *(stop for _, stop in result.pauses)]
    ends = [*(start for start, _ in result.pauses), len(result.audio)]
    passages = [_stretched_passage(result.audio[start:end], speed) for start, end in zip(starts, ends, strict=True)]
    return _with_passages(result, passages)


def _stretched_passage(audio: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    if not len(audio):
        return audio
    stream = TimeStretch(speed)
    try:
        return np.concatenate([stream.write(audio), stream.finish()])
    finally:
        stream.close()


def time_stretched_chunks(chunks: Iterator[SpeechChunk], speed: float) -> Iterator[SpeechChunk]:
    """The chunks at `speed`, as they come; `time_stretched`'s audio in chunks. Closing it closes `chunks`."""
    return chunks if speed == 1 else _stretched(chunks, speed)


def _stretched(chunks: Iterator[SpeechChunk], speed: float) -> Iterator[SpeechChunk]:
    """A passage between two pauses is stretched by itself, so that a pause stays silence of the same length."""
    stream: TimeStretch | None = None
    passages: list[list[NDArray[np.float32]]] = [[]]
    start = 0
    try:
        for chunk in chunks:
            ends_passage = chunk.is_pause or chunk.result is not None
            audio = _NONE
            if not ends_passage and len(chunk.audio):
                stream = stream or TimeStretch(speed)
                audio = stream.write(chunk.audio)
            elif ends_passage and stream is not None:
                audio = stream.finish()
                stream.close()
                stream = None
            passages[-1].append(audio)
            if len(audio):
                yield SpeechChunk(audio, start, None)
                start += len(audio)
            if chunk.is_pause:
                passages.append([])
                yield replace(chunk, start_sample=start)
                start += len(chunk.audio)
            if chunk.result is not None:
                result = _with_passages(chunk.result, [np.concatenate([_NONE, *parts]) for parts in passages])
                yield SpeechChunk(_NONE, start, result)
    finally:
        if stream is not None:
            stream.close()
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _with_passages(result: SpeechResult, passages: Sequence[NDArray[np.float32]]) -> SpeechResult:
    """The result with what stands between its pauses, and at either end, replaced by the stretched passages."""
    parts = [passages[0]]
    for (start, stop), passage in zip(result.pauses, passages[1:], strict=True):
        parts += [np.zeros(stop - start, np.float32), passage]
    edges_before = [0, *chain.from_iterable(result.pauses), len(result.audio)]
    edges = [0, *accumulate(len(part) for part in parts)]

    def moved(seconds: float) -> float:
        return float(np.interp(seconds * result.sampling_rate, edges_before, edges)) / result.sampling_rate

    pieces = tuple(
        replace(piece, start_seconds=moved(piece.start_seconds), end_seconds=moved(piece.end_seconds))
        for piece in result.pieces
    )
    pauses = tuple(zip(edges[1::2], edges[2::2], strict=False))
    return replace(result, audio=np.concatenate(parts), pieces=pieces, pauses=pauses)
