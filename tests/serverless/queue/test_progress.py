from __future__ import annotations

import asyncio
from typing import Any

import pytest

from higgs_core.speech.progress import Progress
from serverless.queue.progress import ARRIVAL_SECONDS, ProgressReporter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(moments: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """What is sent of a job's progress, given as (seconds since its start, share)."""
    sent: list[dict[str, Any]] = []
    clock = Clock()
    reporter = ProgressReporter({"id": "job"}, send=lambda _, update: sent.append(update), clock=clock)
    for seconds, share in moments:
        clock.now = 100.0 + seconds
        reporter(Progress(share, 10 * share))
    return sent


def test_a_short_job_says_nothing() -> None:
    assert told([(0.5, 0.1), (1.5, 0.5), (2.9, 0.7)]) == []


def test_a_long_job_says_how_far_it_is_every_two_seconds() -> None:
    moments = [(0.1 * tick, 0.001 * tick) for tick in range(1, 101)]
    sent = told(moments)
    assert [update["share"] for update in sent] == [0.03, 0.05, 0.07, 0.09]
    assert sent[0]["audio_seconds"] == 0.3


@pytest.mark.parametrize(("seconds", "share"), [(10, 0.9), (4, 0.7), (60, 0.99), (5, 1.0), (5, 0.0)])
def test_nothing_is_sent_that_could_arrive_after_the_result(seconds: float, share: float) -> None:
    assert told([(seconds, share)]) == []


def settled_after(clock: Clock, updates: int) -> list[float]:
    """How long a result waits, a moment after its job's last update."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    async def settle() -> None:
        reporter = ProgressReporter({"id": "job"}, send=lambda *_: None, clock=clock, sleep=sleep)
        for _ in range(updates):
            clock.now += 10
            reporter(Progress(0.2, 1.0))
        clock.now += ARRIVAL_SECONDS - 0.25
        await reporter.settle()

    asyncio.run(settle())
    return waits


def test_a_result_waits_until_the_last_update_has_arrived() -> None:
    assert settled_after(Clock(), updates=2) == [0.25]


def test_a_result_without_updates_waits_for_nothing() -> None:
    assert settled_after(Clock(), updates=0) == []
