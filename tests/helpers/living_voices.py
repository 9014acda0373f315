"""A living library to test: engines and clocks to watch it with, and what it is asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from higgs_core.checkpoint.identity import CheckpointIdentity
from higgs_core.prompt.chatml import AudioContent
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.catalogue import Catalogue
from serverless.voices.library import LivingLibrary
from serverless.voices.voice_file import VoiceRecord
from tests.helpers.patience import PATIENCE
from tests.helpers.service import answer
from tests.helpers.simulated_engine import SimulatedEngine, text_of

JOB = {"script": "Hi.", "seed": 1, "max_new_tokens": 20}
CODES = np.arange(8 * 30, dtype=np.int16).reshape(8, 30)
RECORD = VoiceRecord("mine", "saved", "Words.", CODES, np.ones(28_800, np.int16), "m", "c", 1_700_000_000)
"""A voice as a worker keeps it, of a model and a codec that no test loads."""
DESIGN = replace(RECORD, source="designed", description="calm", seed=5, codes=None, audio=None)
"""One that was described, and not made yet."""
TONE = np.sin(np.arange(24_000) / 20).astype(np.float32) / 2


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


class WatchedEngine:
    """The real engine, which outlives the service. It counts the voices that it makes and keeps the codes of every clip
    that it is given.

    before_making: called, in the thread that makes it, ahead of every voice; may wait or raise.
    identity: in place of its own.
    """

    def __init__(
        self,
        engine: Any,
        *,
        before_making: Callable[[], None] = lambda: None,
        identity: CheckpointIdentity | None = None,
    ) -> None:
        self._engine = engine
        self._before_making = before_making
        self._lock = threading.Lock()
        self.identity = identity or engine.identity
        self.made = 0
        self.encoded = 0
        self.given: list[list[list[int]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, sample: Any, params: Any) -> Any:
        self._look_at(sample)
        return self._engine.submit(sample, params)

    def stream(self, sample: Any, params: Any) -> Any:
        self._look_at(sample)
        return self._engine.stream(sample, params)

    def encode(self, clip: AudioContent) -> Any:
        with self._lock:
            self.encoded += 1
        return self._engine.encode(clip)

    def close(self) -> bool:
        """The next test needs it."""
        return True

    def _look_at(self, sample: Any) -> None:
        if text_of(sample).strip() == CALIBRATION_SENTENCE:
            with self._lock:
                self.made += 1
            self._before_making()
        parts = [part for message in sample.messages for part in message.parts]
        with self._lock:
            self.given += [
                part.codes.tolist() for part in parts if isinstance(part, AudioContent) and part.codes is not None
            ]


@dataclass
class SpeakingEngine(SimulatedEngine):
    """A simulated engine for a library: with an identity, and no checkpoint that is built in."""

    identity: CheckpointIdentity = field(default_factory=lambda: CheckpointIdentity("model", "codec"))
    built_in: None = None


@contextmanager
def serving(engine: Any, **settings: Any) -> Iterator[SpeechService]:
    service = SpeechService(Settings(model_id="tiny", **settings), boot=lambda _: engine)
    service.load()
    assert service.ready, service.load_error
    try:
        yield service
    finally:
        service.close()


def run(service: SpeechService, **job: Any) -> dict[str, Any]:
    return asyncio.run(answer(service, {**JOB, **job}))


@contextmanager
def library(
    engine: Any, folder: Path | None, clock: Clock | None = None, *, patience: float = PATIENCE, **settings: Any
) -> Iterator[LivingLibrary]:
    own = Settings(voices_dir=folder, **settings)
    living = LivingLibrary(own, Catalogue(own, clock=clock or Clock(), now=lambda: 1_700_000_000, patience=patience))
    living.open()
    living.attach(engine)
    try:
        yield living
    finally:
        living.close()


def codes_of(living: LivingLibrary, name: str) -> list[list[int]]:
    voice = living.snapshot().find(name)
    codes: list[list[int]] = asyncio.run(living.ready([voice])).codes[voice].tolist()
    return codes


def ids(living: LivingLibrary) -> list[str]:
    return [facts.id for facts in asyncio.run(living.listed())]
