"""Generates a request piece by piece: it is planned, each piece becomes a sample, the engine speaks the sample, and
text and codes of what went well go back in as context of the next piece. Imports no torch: the engine is handed in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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

__all__ = ["Progress", "SpeechChunk", "SpeechResult", "SpokenPiece", "speak", "stream_speech"]

# What may keep a piece from being generated a second time, while its first generation is there and can be kept.
_TOO_MUCH_AT_ONCE = (BusyError, DeviceMemoryError)
_GLANCE_SECONDS = 0.05  # how often a wait looks up to see whether the request was cancelled


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
    cancelled: threading.Event | None = None,
    on_progress: OnProgress | None = None,
) -> SpeechResult:
    """Speak the whole request and wait for it. clips: the audio of each of its reference sources.

    cancelled: set it, from any thread, to stop within a few decode steps.
    on_progress: called in this thread while it waits.
    Raises what the engine raises, RequestError for a request without words, GenerationCancelled, and NoAudioError when
    the model left every piece without audio.
    """
    narration = _narration(engine, request, clips)
    tell = _Teller(narration, on_progress)
    while narration.goes_on:
        _stop_if(cancelled)
        try:
            future = engine.submit(narration.sample(), narration.params())
            narration.add(_await(future, cancelled, tell))
        except _TOO_MUCH_AT_ONCE:
            if not narration.has_attempt:
                raise
            narration.keep_best()
        tell()
    return narration.result()


def stream_speech(
    engine: HiggsAudioEngine,
    request: SpeechRequest,
    clips: Clips,
    *,
    cancelled: threading.Event | None = None,
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
    Closing the iterator stops the generation, as `cancelled` does from another thread. Raises as `speak` does.
    """
    narration = _narration(engine, request, clips)
    tell = _Teller(narration, on_progress)
    playback = Playback(speed, clock, live=live and request.retries is None)
    while narration.goes_on:
        _stop_if(cancelled)
        start = narration.samples
        held = HeldAudio(playback, until_checked=narration.may_retry or narration.has_attempt, trims=narration.trims)
        try:
            with engine.stream(narration.sample(), narration.params()) as stream, _stopped_by(cancelled, stream):
                for chunk in stream:
                    _stop_if(cancelled)
                    tell(stream.columns_generated)
                    audio = held.add(chunk.audio)
                    if len(audio):
                        yield SpeechChunk(audio, start + held.sent - len(audio), None)
            assert stream.result is not None  # the stream has ended, and not in an error
            piece = narration.add(stream.result, heard=held.sent > 0)
        except _TOO_MUCH_AT_ONCE:
            if held.sent or not narration.has_attempt:
                raise
            piece = narration.keep_best()
        tell()
        if piece is not None and len(rest := held.rest_of(piece)):
            yield SpeechChunk(rest, start + held.sent - len(rest), None)
    yield SpeechChunk(np.zeros(0, np.float32), narration.samples, narration.result())


def _narration(engine: HiggsAudioEngine, request: SpeechRequest, clips: Clips) -> Narration:
    count = getattr(engine, "count_tokens", utf8_length)  # an engine of another make need not be able to count
    planned = plan(request, clips, max_context=engine.max_context, count_tokens=count)
    return Narration(request, planned, engine.max_context, count)


def _await(future: GenerationFuture, cancelled: threading.Event | None, tell: _Teller) -> GenerationResult:
    """The piece's result. However the wait ends, nothing goes on being generated after it."""
    try:
        while not _is_done(future):
            _stop_if(cancelled)
            tell(future.columns_generated)
        return future.result()
    finally:
        future.cancel()


def _is_done(future: Future[Any]) -> bool:
    return bool(wait([future], timeout=_GLANCE_SECONDS).done)


def _stop_if(cancelled: threading.Event | None) -> None:
    if cancelled is not None and cancelled.is_set():
        raise GenerationCancelled("The request was cancelled.")


@contextmanager
def _stopped_by(cancelled: threading.Event | None, stream: AudioStream) -> Iterator[None]:
    """Close the stream when the event is set, although this thread may be asleep waiting for its next chunk."""
    if cancelled is None:
        yield
        return
    over = threading.Event()

    def watch(cancelled: threading.Event) -> None:
        while not over.wait(_GLANCE_SECONDS):
            if cancelled.is_set():
                stream.close()
                return

    watcher = threading.Thread(target=watch, args=(cancelled,), name="higgs-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


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
