"""Makes the codes of voices with the engine: a design is spoken, a clip encoded, each once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio import to_pcm16
from higgs_core.cancellation import CancelToken
from higgs_core.prompt.chatml import AudioContent
from higgs_core.speech.voices import Voice, VoiceDesign
from serverless.voices.calibration import Spoken, speak_design
from serverless.voices.catalogue import Catalogue
from serverless.voices.single_flight import SingleFlight
from serverless.voices.view import KnownVoice

if TYPE_CHECKING:
    from higgs_core.checkpoint.identity import CheckpointIdentity
    from higgs_core.engine import HiggsAudioEngine

T = TypeVar("T")

AT_ONCE = 4
"""Voices that are made at the same time; others wait for their turn."""


class VoiceMaker:
    """One engine's. Safe to use from any thread; what it makes runs in threads of its own, so that whoever asked may
    leave. `close` ends it."""

    def __init__(self, engine: HiggsAudioEngine, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="voice")
        self._flights: SingleFlight[Any] = SingleFlight(self._threads)
        self._cancel = CancelToken()

    @property
    def identity(self) -> CheckpointIdentity:
        """Of the checkpoints that make the codes."""
        return self._engine.identity

    def begin(self, voice: Voice) -> Future[KnownVoice]:
        """Have the codes of a voice made, unless they are being made already."""
        return self._flights.run(voice, partial(self._make, voice))

    def begin_alone(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` in one of the threads, unless whoever asked cancels the future before its turn."""
        return self._flights.run_alone(call)

    def speak(self, name: str, design: VoiceDesign) -> Spoken:
        """Blocking. Raises what `speak_design` raises."""
        return speak_design(self._engine, name, design, self._cancel)

    def encode(self, waveform: NDArray[np.float32]) -> NDArray[np.int16]:
        """int16 [8, T]. Blocking. Raises HiggsError."""
        self._cancel.raise_if_cancelled()
        return self._engine.encode(AudioContent(waveform=waveform)).astype(np.int16)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.int16]:
        """int16 [N]. Blocking. Raises HiggsError."""
        self._cancel.raise_if_cancelled()
        return to_pcm16(self._engine.decode(codes))

    def close(self) -> None:
        """End what is being made; whoever waits for it hears that it was cancelled."""
        self._cancel.cancel()
        self._threads.shutdown(wait=False)

    def _make(self, voice: Voice) -> KnownVoice:
        known = self._catalogue.known_as(voice)
        if known is None:  # removed or replaced since the request was read
            known = KnownVoice(voice, "folder", voice.design)
        if known.codes is not None:
            return known
        if (fresh := self._made_elsewhere(known)) is not None:
            known.codes = fresh
        elif voice.codes is not None:
            known.codes = voice.codes
        elif voice.waveform is not None:
            known.codes = self.encode(voice.waveform)
            if known.record is not None:  # the codes that were kept are another codec's
                self._catalogue.keep_made(known, to_pcm16(voice.waveform))
        else:
            assert voice.design is not None
            spoken = self.speak(voice.name, voice.design)
            known.codes, known.warnings = spoken.codes, spoken.warnings
            if not spoken.warnings:
                self._catalogue.keep_made(known, spoken.audio)
        return known

    def _made_elsewhere(self, known: KnownVoice) -> NDArray[Any] | None:
        """The codes of a design that another worker of this volume has made meanwhile."""
        if known.design is None:
            return None
        fresh = self._catalogue.current(at_once=True).known.get(known.voice.name)
        return fresh.codes if fresh is not None and fresh.design == known.design else None
