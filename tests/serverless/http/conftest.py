"""Servers with settings or voices of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.held_engine import Held, HeldEngine
from tests.helpers.http_server import Running, serving_http
from tests.helpers.service import EngineOfSlots, SharedEngine
from tests.helpers.voices import voice_folder


@pytest.fixture
def serve(tiny_engine: HiggsAudioEngine) -> Iterator[Callable[..., Running]]:
    """Starts servers around the shared engine, which end with the test; fields of Settings as arguments.

    before: called ahead of every submission to the engine; it may raise.
    """
    with ExitStack() as ending:

        def start(*, slots: int = 8, before: Callable[[], None] = lambda: None, **fields: Any) -> Running:
            settings = Settings(model_id="tiny", device="cpu", **fields)
            engine = SharedEngine(EngineOfSlots(tiny_engine, slots), before)
            service = SpeechService(settings, boot=lambda _: engine)  # type: ignore[arg-type, return-value]
            return ending.enter_context(serving_http(settings, service))

        yield start


@pytest.fixture
def worker(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> Iterator[Running]:
    """A server with a writable library of one voice, belinda, around the shared engine."""
    settings = Settings(model_id="tiny", device="cpu", voices_dir=voice_folder(tmp_path), max_saved_voices=2)
    service = SpeechService(settings, boot=lambda _: SharedEngine(tiny_engine))  # type: ignore[arg-type, return-value]
    with serving_http(settings, service) as running:
        yield running


@pytest.fixture
def hold(tiny_engine: HiggsAudioEngine) -> Iterator[Callable[..., Held]]:
    """Starts servers whose sentences stay in the middle until the event is set, and that have a place for one; fields
    of Settings as arguments."""
    with ExitStack() as ending:

        def start(**fields: Any) -> Held:
            settings = Settings(model_id="tiny", device="cpu", max_queued_requests=0, **fields)
            engine = HeldEngine(EngineOfSlots(tiny_engine, 1))
            service = SpeechService(settings, boot=lambda _: engine)  # type: ignore[arg-type, return-value]
            server = ending.enter_context(serving_http(settings, service))
            ending.callback(engine.may_go_on.set)
            return Held(server, engine.may_go_on)

        yield start


@pytest.fixture
def held(hold: Callable[..., Held]) -> Held:
    """Such a server with the usual settings."""
    return hold()
