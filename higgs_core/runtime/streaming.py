"""Exact streaming: audio while codes are generated, chunk by chunk equal to decoding each segment at once.

A chunk is decoded with `CONTEXT_FRAMES` real frames on either side and cut to itself, which is all that the codec's
decoder can see. Only a segment's last chunk ends where the segment ends, as the full decode does. So the first chunk
can leave after 1 + 10 frames, which is 18 sampled columns.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from higgs_core.codec.audio_codec import CONTEXT_FRAMES
from higgs_core.runtime.generation import Generation, GenerationResult, Timeline

FIRST_CHUNK_FRAMES = 1
LARGEST_CHUNK_FRAMES = 64


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """audio: float32 [n]; start_sample: where it stands in the whole; the last chunk of a stream may be empty."""

    audio: np.ndarray
    start_sample: int
    is_last: bool


@dataclass(frozen=True)
class _Piece:
    """Frames start..stop of a segment, to be decoded from frames left..right."""

    start: int
    stop: int
    left: int
    right: int


class ChunkPlan:
    """Which frames of a segment go out next. Chunks double in length from `FIRST_CHUNK_FRAMES` on."""

    def __init__(self) -> None:
        self._sent = 0
        self._size = FIRST_CHUNK_FRAMES

    def ready(self, complete: int, *, final: bool) -> Iterator[_Piece]:
        """Pieces that may be decoded exactly, given so many complete frames. `final`: there will be no more."""
        while complete - CONTEXT_FRAMES - self._sent >= self._size:
            yield self._piece(self._sent + self._size, self._sent + self._size + CONTEXT_FRAMES)
            self._size = min(2 * self._size, LARGEST_CHUNK_FRAMES)
        if final and complete > self._sent:
            yield self._piece(complete, complete)

    def _piece(self, stop: int, right: int) -> _Piece:
        piece = _Piece(self._sent, stop, max(self._sent - CONTEXT_FRAMES, 0), right)
        self._sent = stop
        return piece


class AudioStream:
    """Iterator of AudioChunk. After the last chunk `result` holds the GenerationResult.

    Leaving early (`close`, or the end of a `with` block) cancels the generation. Raises what the generation raised.
    """

    def __init__(
        self,
        decode: Callable[[np.ndarray], Future[np.ndarray]],
        codes_per_codebook: int,
        samples_per_frame: int,
        cancel: Callable[[], None],
    ) -> None:
        self._decode, self._codes, self._hop = decode, codes_per_codebook, samples_per_frame
        self._cancel = cancel
        self._plans: list[ChunkPlan] = []
        self._pieces: queue.SimpleQueue[tuple[_Piece, Future[np.ndarray]] | BaseException | None] = queue.SimpleQueue()
        self._audio: list[np.ndarray] = []
        self._samples = 0
        self._generation: Generation | None = None
        self._finish: Callable[[Generation, np.ndarray, float], GenerationResult] | None = None
        self._codec_seconds = self._codec_until = 0.0
        self.result: GenerationResult | None = None

    def __iter__(self) -> AudioStream:
        return self

    def __next__(self) -> AudioChunk:
        if self.result is not None:
            raise StopIteration
        item = self._pieces.get()
        if isinstance(item, BaseException):
            self._pieces.put(item)  # whoever asks again is told again
            raise item
        if item is None:
            assert self._generation is not None
            assert self._finish is not None
            audio = np.concatenate(self._audio) if self._audio else np.zeros(0, dtype=np.float32)
            self.result = self._finish(self._generation, audio, self._codec_seconds)
            return AudioChunk(np.zeros(0, dtype=np.float32), self._samples, is_last=True)
        piece, decoded = item
        first = (piece.start - piece.left) * self._hop
        audio = decoded.result()[first : first + (piece.stop - piece.start) * self._hop]
        chunk = AudioChunk(audio, self._samples, is_last=False)
        self._audio.append(audio)
        self._samples += len(audio)
        return chunk

    @property
    def columns_generated(self) -> int:
        return self._generation.columns_generated if self._generation is not None else 0

    def close(self) -> None:
        """Stop generating; the slot is free a few steps later."""
        if self.result is None:
            self._cancel()

    cancel = close

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_columns(self, generation: Generation) -> None:
        """Called by the engine's thread after each column: send off what can be decoded exactly."""
        self._generation = generation
        self._send(generation, final=generation.segments[-1].ended)

    def on_finished(
        self, generation: Generation, finish: Callable[[Generation, np.ndarray, float], GenerationResult]
    ) -> None:
        """Called when generation is over: send the rest of a segment that the step cap cut.

        finish: makes the result of generation, audio and the seconds that the codec took.
        """
        self._generation, self._finish = generation, finish
        if generation.segments and not generation.segments[-1].ended:
            self._send(generation, final=True)
        self._pieces.put(None)

    def on_failed(self, error: BaseException) -> None:
        self._pieces.put(error)

    def _send(self, generation: Generation, *, final: bool) -> None:
        segment = generation.segments[-1]
        while len(self._plans) < len(generation.segments):
            self._plans.append(ChunkPlan())
        for piece in self._plans[-1].ready(segment.complete_frames, final=final):
            codes = segment.frames(piece.left, piece.right, self._codes)
            self._pieces.put((piece, self._measured(self._decode(codes), generation.timeline)))

    def _measured(self, decoding: Future[np.ndarray], timeline: Timeline) -> Future[np.ndarray]:
        """`decoding`, with what it took written down before anybody has its result."""
        measured: Future[np.ndarray] = Future()
        started = time.perf_counter()

        def done(decoded: Future[np.ndarray]) -> None:
            now = time.perf_counter()
            self._codec_seconds += now - max(started, self._codec_until)  # pieces that overlap count once
            self._codec_until = now
            timeline.first_audio = timeline.first_audio or now
            error = decoded.exception()
            if error is None:
                measured.set_result(decoded.result())
            else:
                measured.set_exception(error)

        decoding.add_done_callback(done)
        return measured
