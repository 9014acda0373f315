"""Exact streaming: audio while codes are generated, equal chunk by chunk to decoding each segment at once.

A chunk is decoded with `CONTEXT_FRAMES` real frames on either side and cut to itself, which is all that the codec's
decoder can see. Only a segment's last chunk ends where the segment ends, as the full decode does. So the first chunk
can leave after 1 + 10 frames, which is 18 sampled columns.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from higgs_core.codec.pieces import CONTEXT_FRAMES, Piece
from higgs_core.errors import EngineStoppedError, HiggsError
from higgs_core.runtime.generation import Generation, GenerationResult

log = logging.getLogger(__name__)

FIRST_CHUNK_FRAMES = 1
LARGEST_CHUNK_FRAMES = 64


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """audio: float32 [n]; start_sample: where it stands in the whole; the last chunk of a stream may be empty."""

    audio: np.ndarray
    start_sample: int
    is_last: bool


class ChunkPlan:
    """Which frames of a segment go out next. Chunks double in length from `FIRST_CHUNK_FRAMES` on.

    captured_lengths: numbers of frames, ascending, that the codec decodes fastest. Where a segment is long enough its
    last chunk, which may have any length, is decoded with so much more context that it has one of these.
    """

    def __init__(self, captured_lengths: Sequence[int] = ()) -> None:
        self._captured_lengths = captured_lengths
        self._sent = 0
        self._size = FIRST_CHUNK_FRAMES

    def ready(self, complete: int, *, final: bool) -> Iterator[Piece]:
        """Chunks that may be decoded exactly, given so many complete frames. `final`: there will be no more."""
        while complete - CONTEXT_FRAMES - self._sent >= self._size:
            stop = self._sent + self._size
            yield self._piece(stop, self._left, stop + CONTEXT_FRAMES)
            self._size = min(2 * self._size, LARGEST_CHUNK_FRAMES)
        if final and complete > self._sent:
            needed = complete - self._left
            length = next((length for length in self._captured_lengths if needed <= length <= complete), needed)
            yield self._piece(complete, complete - length, complete)

    @property
    def _left(self) -> int:
        return max(self._sent - CONTEXT_FRAMES, 0)

    def _piece(self, stop: int, left: int, right: int) -> Piece:
        piece = Piece(self._sent, stop, left, right)
        self._sent = stop
        return piece


def stream_lengths() -> list[int]:
    """Frames that decodes of chunks have, ascending, but for last chunks: those can have any number."""
    until_largest = 4 * (LARGEST_CHUNK_FRAMES + CONTEXT_FRAMES)
    return sorted({piece.decoded_frames for piece in ChunkPlan().ready(until_largest, final=False)})


class AudioStream:
    """Iterator of AudioChunk. After the last chunk `result` holds the GenerationResult.

    Leaving early (`close`, or the end of a `with` block) cancels the generation. Raises what the generation raised.
    """

    def __init__(
        self,
        generation: Generation,
        decode: Callable[[np.ndarray], Future[np.ndarray]],
        codes_per_codebook: int,
        cancel: Callable[[Generation], None],
        make_result: Callable[[Generation, np.ndarray, float, float | None], GenerationResult],
        captured_lengths: Sequence[int] = (),
    ) -> None:
        """decode: codes int64 [Q, T] to the future of float32 [T * 960].

        make_result: of the generation, its audio float32 [N], the seconds that the codec took, and the moment when the
        first audio was decoded (None without audio).
        captured_lengths: as `ChunkPlan` says.
        """
        self._generation = generation
        self._decode, self._codes = decode, codes_per_codebook
        self._cancel, self._make_result = cancel, make_result
        self._plans: list[ChunkPlan] = []
        self._captured_lengths = captured_lengths
        self._chunks: queue.SimpleQueue[tuple[Piece, Future[np.ndarray]] | BaseException | None] = queue.SimpleQueue()
        self._audio: list[np.ndarray] = []
        self._samples = 0
        self._codec_seconds = self._codec_until = 0.0
        self._first_audio: float | None = None
        self._failure: Exception | None = None  # raised again by every further call
        self.result: GenerationResult | None = None

    def __iter__(self) -> AudioStream:
        return self

    def __next__(self) -> AudioChunk:
        if self.result is not None:
            raise StopIteration
        if self._failure is not None:
            raise self._failure
        try:
            return self._next_chunk()
        except Exception as error:
            self._failure = error
            raise

    def _next_chunk(self) -> AudioChunk:
        item = self._chunks.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            audio = np.concatenate(self._audio) if self._audio else np.zeros(0, dtype=np.float32)
            self.result = self._make_result(self._generation, audio, self._codec_seconds, self._first_audio)
            return AudioChunk(np.zeros(0, dtype=np.float32), self._samples, is_last=True)
        piece, decoded = item
        audio = decoded.result()[piece.samples]
        chunk = AudioChunk(audio, self._samples, is_last=False)
        self._audio.append(audio)
        self._samples += len(audio)
        return chunk

    @property
    def columns_generated(self) -> int:
        """Columns generated so far; 25 make a second of audio."""
        return self._generation.columns_generated

    @property
    def has_ended(self) -> bool:
        """Whether nothing is generated any more; some of the audio may still have to be taken."""
        return self._generation.finished.done()

    def close(self) -> None:
        """Stop generating; the slot is free a few steps later."""
        if self.result is None:
            self._cancel(self._generation)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_columns(self) -> None:
        """Called by the engine's thread after each column: send off what can be decoded exactly."""
        self._send(final=self._generation.segments[-1].ended)

    def on_finished(self, finished: Future[Generation]) -> None:
        """Called when the generation is over: send the rest of a segment that the step cap cut."""
        error = finished.exception()
        try:
            if error is None and self._generation.segments and not self._generation.segments[-1].ended:
                self._send(final=True)
        finally:
            self._chunks.put(error)

    def _send(self, *, final: bool) -> None:
        """Send what is ready to the codec. Whatever fails is an error of this stream, not of the engine's thread."""
        try:
            segment = self._generation.segments[-1]
            while len(self._plans) < len(self._generation.segments):
                self._plans.append(ChunkPlan(self._captured_lengths))
            for piece in self._plans[-1].ready(segment.complete_frames, final=final):
                codes = segment.frames(piece.left, piece.right, self._codes)
                self._chunks.put((piece, self._measured(self._decode(codes))))
        except HiggsError as stopped:  # the codec has stopped
            self._fail(stopped)
        except Exception as defect:
            log.error("A stream's chunk could not be sent: %s", type(defect).__name__, exc_info=defect)
            self._fail(HiggsError("The stream failed for a reason of the worker's own.", hint="Try again."))
        except BaseException:
            self._fail(EngineStoppedError("The engine's thread was ended; this worker is being replaced."))
            raise

    def _fail(self, error: HiggsError) -> None:
        self._chunks.put(error)
        self._cancel(self._generation)

    def _measured(self, decoding: Future[np.ndarray]) -> Future[np.ndarray]:
        """`decoding`, whose duration is noted before its result is there."""
        measured: Future[np.ndarray] = Future()
        started = time.perf_counter()

        def done(decoded: Future[np.ndarray]) -> None:
            now = time.perf_counter()
            self._codec_seconds += now - max(started, self._codec_until)  # chunks that overlap count once
            self._codec_until = now
            self._first_audio = self._first_audio or now
            error = decoded.exception()
            if error is None:
                measured.set_result(decoded.result())
            else:
                measured.set_exception(error)

        decoding.add_done_callback(done)
        return measured
