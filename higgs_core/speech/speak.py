"""Generates one request chunk by chunk; earlier text and codes go back in as context.

Imports no torch: the engine is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgs_core.cancellation import CancelToken
from higgs_core.errors import BusyError, DeviceMemoryError, GenerationCancelled
from higgs_core.prompt.size import utf8_length
from higgs_core.rates import FRAMES_PER_SECOND
from higgs_core.speech.held_audio import HeldAudio
from higgs_core.speech.plan import Clips, plan
from higgs_core.speech.playback import Clock, Playback
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.session import Narration, SpeechResult, SpokenPiece

if TYPE_CHECKING:
    from higgs_core.engine import AudioStream, GenerationFuture, GenerationResult, HiggsAudioEngine
    from higgs_core.params import GenerationParams
    from higgs_core.prompt.chatml import ChatMLSample

__all__ = ["Progress", "SpeechChunk", "SpeechResult", "SpokenPiece", "speak", "stream_speech"]

_PROGRESS_SECONDS = 0.1  # how often progress is reported while a whole generation is waited for
_NO_AUDIO = np.zeros(0, np.float32)
# What may keep a piece from being generated a second time, while its first generation is there and can be kept.
_TOO_MUCH_AT_ONCE = (BusyError, DeviceMemoryError)


@dataclass(frozen=True)
class Progress:
    """share: 0 to 1, never falling; exact between pieces and a guess inside one.  audio_seconds: spoken so far."""

    share: float
    audio_seconds: float


@dataclass(frozen=True, eq=False)
class SpeechChunk:
    """audio: float32 [n]; start_sample: where it stands in the whole. The last chunk is empty and has the result."""

    audio: np.ndarray[Any, np.dtype[np.float32]]
    start_sample: int
    result: SpeechResult | None


OnProgress = Callable[[Progress], None]


def speak(
    engine: HiggsAudioEngine,
    request: SpeechRequest,
    clips: Clips,
    *,
    cancel: CancelToken | None = None,
    on_progress: OnProgress | None = None,
) -> SpeechResult:
    """Speak the whole request and wait for it. clips: the audio of each of its reference sources.

    cancel: stops the generation within a few decode steps when another thread cancels it.
    on_progress: called in this thread while it waits.
    Raises what the engine raises, RequestError for a request without words, GenerationCancelled, and NoAudioError when
    the model left every piece without audio.
    """
    interval = None if on_progress is None else _PROGRESS_SECONDS

    def generate(sample: ChatMLSample, params: GenerationParams) -> _WholeGeneration:
        return _WholeGeneration(engine.submit(sample, params), interval)

    *_, last = _chunks(_narration(engine, request, clips), generate, Playback(live=False), cancel, on_progress)
    assert last.result is not None
    return last.result


def stream_speech(
    engine: HiggsAudioEngine,
    request: SpeechRequest,
    clips: Clips,
    *,
    cancel: CancelToken | None = None,
    on_progress: OnProgress | None = None,
    speed: float = 1.0,
    live: bool = True,
    clock: Clock = time.monotonic,
) -> Iterator[SpeechChunk]:
    """Speak the request chunk by chunk; the chunks joined are the audio of the result, which the last one brings.

    That is `speak`'s result, but for pieces that went wrong: one is generated again only while none of its audio has
    been sent. The first piece is sent from its first sound on. A later one is held until it is known to be good, while
    the listener still has enough to play. A request that sends `retries` has every piece held so, whatever the clock
    says, and gives the same in a stream and in one piece.
    speed: how much faster than it was spoken the audio is played.  clock: seconds, monotonic.
    live: False where nobody hears anything before the end; then too every piece is held.
    Closing the iterator stops the generation, as `cancel` does from another thread. Raises as `speak` does.
    """
    playback = Playback(speed, clock, live=live and request.retries is None)
    yield from _chunks(_narration(engine, request, clips), engine.stream, playback, cancel, on_progress)


def _narration(engine: HiggsAudioEngine, request: SpeechRequest, clips: Clips) -> Narration:
    count = getattr(engine, "count_tokens", utf8_length)  # an engine of another make need not be able to count
    planned = plan(request, clips, max_context=engine.max_context, count_tokens=count)
    return Narration(request, planned, engine.max_context, count)


def _chunks(
    narration: Narration,
    generate: Callable[[ChatMLSample, GenerationParams], AudioStream | _WholeGeneration],
    playback: Playback,
    cancel: CancelToken | None,
    on_progress: OnProgress | None,
) -> Iterator[SpeechChunk]:
    """Every piece, generated until one of its generations stays, and then the result."""
    cancel = cancel or CancelToken()
    tell = _Teller(narration, on_progress)
    while narration.goes_on:
        cancel.raise_if_cancelled()
        start = narration.samples
        held = HeldAudio(playback, until_checked=narration.may_retry or narration.has_attempt, trims=narration.trims)
        try:
            with (
                generate(narration.sample(), narration.params()) as generation,
                cancel.on_cancel(generation.close),
            ):
                for chunk in generation:
                    cancel.raise_if_cancelled()
                    tell(generation.columns_generated)
                    audio = held.add(chunk.audio)
                    if len(audio):
                        yield SpeechChunk(audio, start + held.sent - len(audio), None)
            assert generation.result is not None  # it has ended, and not in an error
            piece = narration.add(generation.result, heard=held.sent > 0)
        except _TOO_MUCH_AT_ONCE:
            if held.sent or not narration.has_attempt:
                raise
            piece = narration.keep_best()
        tell()
        if piece is not None and len(rest := held.rest_of(piece)):
            yield SpeechChunk(rest, start + held.sent - len(rest), None)
    yield SpeechChunk(_NO_AUDIO, narration.samples, narration.result())


class _WholeGeneration:
    """A generation that is waited for, with the interface of an AudioStream: its chunks are empty.

    interval: seconds from one chunk to the next, None for no chunk at all.
    """

    def __init__(self, future: GenerationFuture, interval: float | None) -> None:
        self._future = future
        self._interval = interval
        self.result: GenerationResult | None = None

    def __iter__(self) -> Iterator[SpeechChunk]:
        """Raises what the generation raised, GenerationCancelled if it was cancelled."""
        while not self._is_over():
            yield SpeechChunk(_NO_AUDIO, 0, None)
        self.result = self._future.result()

    def _is_over(self) -> bool:
        try:
            self._future.exception(self._interval)
        except TimeoutError:
            return False
        except CancelledError:
            raise GenerationCancelled("The request was cancelled.") from None
        return True

    @property
    def columns_generated(self) -> int:
        return self._future.columns_generated

    def close(self) -> None:
        """Stop generating; nothing happens once the result is there."""
        self._future.cancel()

    def __enter__(self) -> _WholeGeneration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _seconds_of(columns: int) -> float:
    """Audio that a running piece has for sure: its first and last frame are no sound, and the delay takes seven."""
    return max(columns - 9, 0) / FRAMES_PER_SECOND


class _Teller:
    """Reports progress, only when there is some."""

    def __init__(self, narration: Narration, on_progress: OnProgress | None) -> None:
        self._narration = narration
        self._on_progress = on_progress
        self._told = Progress(0.0, 0.0)

    def __call__(self, columns: int = 0) -> None:
        """columns: of the piece being spoken."""
        if self._on_progress is None:
            return
        progress = Progress(
            max(self._narration.share(columns), self._told.share),
            max(self._narration.seconds + _seconds_of(columns), self._told.audio_seconds),
        )
        if progress != self._told:
            self._told = progress
            self._on_progress(progress)
