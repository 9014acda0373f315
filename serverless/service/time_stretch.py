"""The speed of generated speech: what stands between two pauses is stretched, the pauses are not. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.time_stretch import TimeStretch
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import SpeechChunk

_AT_ONCE = 10 * SAMPLING_RATE  # samples of a whole answer that are stretched at a time
_NONE = np.zeros(0, np.float32)


def time_stretched(result: SpeechResult, speed: float) -> SpeechResult:
    """The result with its audio and the times of its pieces at `speed`; a pause lasts as long as before."""
    if speed == 1:
        return result
    starts = [0, *(stop for _, stop in result.pauses)]
    ends = [*(start for start, _ in result.pauses), len(result.audio)]
    passages = [_stretched_passage(result.audio[start:end], speed) for start, end in zip(starts, ends, strict=True)]
    return _with_passages(result, passages)


def _stretched_passage(audio: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    stretch = TimeStretch(speed)
    parts = [stretch.write(audio[at : at + _AT_ONCE]) for at in range(0, len(audio), _AT_ONCE)]
    return np.concatenate([*parts, stretch.finish()])


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
