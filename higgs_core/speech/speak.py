"""Generates one request piece by piece; earlier text and codes go back in as context.

Imports no torch: the engine is handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.cancellation import CancelToken
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.generations import TOO_MUCH_AT_ONCE, Generations, Slots
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.progress import OnProgress, ProgressTracker
from higgs_core.speech.request import Clips, SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.send_buffer import ClientBuffer, Clock, SendBuffer
from higgs_core.speech.session import SpeechSession
from higgs_core.speech.whole_generation import WholeGeneration

if TYPE_CHECKING:
    from higgs_core.engine import AudioStream, HiggsAudioEngine
    from higgs_core.params import GenerationParams
    from higgs_core.prompt.chatml import ChatMLSample

_WAIT_SECONDS = 0.1  # how often progress is reported, and pieces ahead are started, while a generation is waited for
_NO_AUDIO = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class SpeechChunk:
    """audio: float32 [n]; start_sample: where it stands in the whole. The last chunk is empty and has the result.

    text: what the piece says that begins with this audio, None inside a piece.
    is_pause: silence that the script asked for, which lasts as long at any speed.
    """

    audio: NDArray[np.float32]
    start_sample: int
    result: SpeechResult | None
    text: str | None = None
    is_pause: bool = False


def speak(
    engine: HiggsAudioEngine,
    request: SpeechRequest,
    clips: Clips,
    *,
    cancel: CancelToken | None = None,
    on_progress: OnProgress | None = None,
    context: PieceContext | None = None,
    check_samples: Callable[[int, int], None] | None = None,
) -> SpeechResult:
    """Speak the whole request and wait for it. clips: the audio of each of its reference sources.

    cancel: stops the generation within a few decode steps when another thread cancels it.
    on_progress: called in this thread while it waits.
    context: what earlier requests spoke and this one continues, see SpeechSession.
    check_samples: called in this thread after each piece, with the samples of speech so far and those of the script's
    pauses. What it raises ends the request.
    Raises what the engine raises, RequestError for a request without words, GenerationCancelled, and NoAudioError when
    the model left every piece without audio.
    """
    session = _session(engine, request, clips, context)
    interval = _WAIT_SECONDS if on_progress is not None or session.pieces_ahead else None

    def generate(sample: ChatMLSample, params: GenerationParams) -> WholeGeneration:
        return WholeGeneration(engine.submit(sample, params), interval)

    last = None
    for last in _chunks(session, generate, engine, ClientBuffer(live=False), cancel, on_progress):
        if check_samples is not None and last.result is None:
            check_samples(session.speech_samples, session.paused_samples)
    assert last is not None
    assert last.result is not None
    return last.result


def stream_speech(
    engine: HiggsAudioEngine,
    request: SpeechRequest,
    clips: Clips,
    *,
    cancel: CancelToken | None = None,
    on_progress: OnProgress | None = None,
    context: PieceContext | None = None,
    speed: float = 1.0,
    live: bool = True,
    clock: Clock = time.monotonic,
) -> Iterator[SpeechChunk]:
    """Speak the request chunk by chunk; the chunks joined are the audio of the result, which the last one brings.

    That is `speak`'s result, but for pieces that went wrong: one is generated again only while none of its audio has
    been sent. The first piece is sent from its first sound on. A later one is held until it is known to be good, while
    the client still has enough to play. A request that sends `retries` has every piece held to its end, whatever the
    clock says, so that its stream equals `speak`'s result.
    context: what earlier requests spoke and this one continues, see SpeechSession.
    speed: how much faster than it was spoken the audio is played.  clock: seconds, monotonic.
    live: False where nothing is played before the end; then too every piece is held to its end.
    Closing the iterator stops the generation, as `cancel` does from another thread. Raises as `speak` does.
    """
    session = _session(engine, request, clips, context)
    client = ClientBuffer(speed, clock, live=live and request.retries is None)
    return _chunks(session, engine.stream, engine, client, cancel, on_progress)


def _session(
    engine: HiggsAudioEngine, request: SpeechRequest, clips: Clips, context: PieceContext | None
) -> SpeechSession:
    return SpeechSession(
        request,
        clips,
        engine.max_context,
        engine.count_tokens,
        max_piece_words=engine.max_piece_words,
        context=context,
    )


def _chunks(
    session: SpeechSession,
    start: Callable[[ChatMLSample, GenerationParams], AudioStream | WholeGeneration],
    slots: Slots,
    client: ClientBuffer,
    cancel: CancelToken | None,
    on_progress: OnProgress | None,
) -> Iterator[SpeechChunk]:
    """Generate every piece until one of its generations is kept; the last chunk has the result."""
    cancel = cancel or CancelToken()
    progress = ProgressTracker(session, on_progress)
    sent = 0  # samples
    paused = False  # the silence before the next piece has left
    with Generations(session, start, slots, cancel) as generations:
        while session.has_next:
            cancel.raise_if_cancelled()
            buffer = SendBuffer(client, until_checked=session.request.retry_limit > 0, trim=session.request.trim)
            text: str | None = session.text
            try:
                with generations.next() as generation:
                    # The engine works meanwhile, and has taken the piece: what it refuses is refused before any audio.
                    if session.pause_samples and not paused:
                        yield _pause(session, client, sent)
                        sent, paused = sent + session.pause_samples, True
                    for chunk in generation:
                        cancel.raise_if_cancelled()
                        generations.start_ahead()
                        progress.report(generations.columns)
                        if len(audio := buffer.add(chunk.audio)):
                            yield SpeechChunk(audio, sent, None, text)
                            sent, text = sent + len(audio), None
                assert generation.result is not None  # it has ended, and not in an error
                kept = session.add(generation.result, sent=buffer.has_sent)
            except TOO_MUCH_AT_ONCE:
                if not buffer.has_sent and generations.begin_anew():
                    continue
                if buffer.has_sent or not session.has_attempt:
                    raise
                kept = session.keep_best()
            paused = paused and kept is None
            progress.report()
            if kept is not None and len(rest := buffer.rest_of(kept)):
                yield SpeechChunk(rest, sent, None, text)
                sent += len(rest)
        if session.pause_samples:
            yield _pause(session, client, sent)
            sent += session.pause_samples
    yield SpeechChunk(_NO_AUDIO, sent, session.result())


def _pause(session: SpeechSession, client: ClientBuffer, start_sample: int) -> SpeechChunk:
    """The silence before the next piece, or after the last."""
    client.add_pause(session.pause_samples / SAMPLING_RATE)
    return SpeechChunk(np.zeros(session.pause_samples, np.float32), start_sample, None, is_pause=True)
