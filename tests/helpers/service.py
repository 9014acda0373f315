"""A speech service around the shared tiny engine; an engine that fails on demand; jobs answered in JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from higgs_core.errors import HiggsError
from serverless.config.settings import Settings
from serverless.delivery.response import Accepted
from serverless.delivery.serialise import Json, error_json, event_json, response_json
from serverless.service.service import SpeechService


class SharedEngine:
    """The real engine, which outlives the service; `before` runs ahead of every submit and stream and may raise."""

    def __init__(self, engine: Any, before: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, *arguments: Any) -> Any:
        self._before()
        return self._engine.submit(*arguments)

    def stream(self, *arguments: Any) -> Any:
        self._before()
        return self._engine.stream(*arguments)

    def close(self) -> None:
        """The next test needs it."""


class EngineOfSlots:
    """An engine that says that it has another number of slots than it has."""

    def __init__(self, engine: Any, slots: int) -> None:
        self._engine = engine
        self.max_batch_size = slots

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def serving(engine: Any, before: Callable[[], None] = lambda: None, **settings: Any) -> Iterator[SpeechService]:
    """A loaded service; `settings` are fields of Settings."""
    service = SpeechService(Settings(model_id="tiny", **settings), boot=lambda _: SharedEngine(engine, before))  # type: ignore[arg-type, return-value]
    service.load()
    try:
        yield service
    finally:
        service.close()


async def answer(service: SpeechService, job_input: Any, **options: Any) -> Json:
    """What an entry point would answer to the job: the response or the error."""
    try:
        return response_json(await service.run(job_input, **{"job_id": "job-1", **options}))
    except HiggsError as error:
        return error_json(error)


async def items(service: SpeechService, job_input: Any, **options: Any) -> list[Json]:
    """What an entry point would stream; an error is the last item."""
    collected = []
    try:
        async for event in service.stream(job_input, **{"job_id": "job-1", **options}):
            if not isinstance(event, Accepted):
                collected.append(event_json(event))
    except HiggsError as error:
        collected.append(error_json(error))
    return collected
