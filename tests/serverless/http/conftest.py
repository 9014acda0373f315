"""Servers with settings of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.service import EngineOfSlots, SharedEngine


@pytest.fixture
def serve(tiny_engine: HiggsAudioEngine) -> Iterator[Any]:
    """Servers around the shared engine; they end with the test."""
    ending = []

    def start(*, slots: int = 8, **fields: Any) -> Running:
        settings = Settings(model_id="tiny", device="cpu", **fields)
        engine = SharedEngine(EngineOfSlots(tiny_engine, slots))
        context = serving_http(settings, SpeechService(settings, boot=lambda _: engine))  # type: ignore[arg-type, return-value]
        running = context.__enter__()
        ending.append(context)
        return running

    yield start
    for context in ending:
        context.__exit__(None, None, None)
