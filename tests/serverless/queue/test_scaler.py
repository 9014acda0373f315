"""What happens where an SDK's insides are others than expected: a warning, and the SDK's own way."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from serverless.queue.drain import Drain
from serverless.queue.scaler import ScalerHooks


class Scaler:
    """The parts of an SDK's scaler that a test leaves there."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def handle_shutdown(self, number: int, frame: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def nothing(*_: Any) -> None:
    return None


def attached(scaler: Scaler) -> Drain:
    async def attach() -> Drain:
        signal.signal(signal.SIGTERM, scaler.handle_shutdown)
        drain = Drain()
        ScalerHooks(drain, hold_seconds=1).between_polls()
        return drain

    return asyncio.run(attach())


def stopping() -> tuple[list[str], Any]:
    stopped: list[str] = []
    return stopped, lambda: stopped.append("stopped")


def test_a_scaler_of_another_kind_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    scaler = Scaler(poll=nothing)
    attached(scaler).begin()
    assert "scaler was not found" in caplog.text
    assert vars(scaler) == {"poll": nothing}


def test_each_part_that_is_missing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    stopped, stop = stopping()
    scaler = Scaler(jobs_fetcher=nothing, kill_worker=stop)
    attached(scaler).begin()
    assert stopped == ["stopped"]
    assert "job handler was not found" in caplog.text
    assert "list of jobs was not found" in caplog.text
    assert [record.levelno for record in caplog.records if "not found" in record.message] == [logging.WARNING] * 2


def test_a_scaler_with_all_parts_is_attached_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    _, stop = stopping()
    scaler: Any = Scaler(
        jobs_fetcher=nothing,
        kill_worker=stop,
        jobs_handler=nothing,
        stop_signals_fetcher=nothing,
        job_progress=SimpleNamespace(get=lambda job_id: None),
    )
    attached(scaler)
    assert caplog.text == ""
    assert nothing not in (scaler.jobs_fetcher, scaler.jobs_handler, scaler.stop_signals_fetcher)


def test_outside_the_sdk_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def asked() -> None:
        ScalerHooks(Drain(), hold_seconds=1).between_polls()

    asyncio.run(asked())
    assert "scaler was not found" in caplog.text
