"""Polls for jobs: how far apart they are, and that a drain waits for none."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from runpod.http_client import TooManyRequests

from serverless.queue import job_take
from serverless.queue.backoff import Backoff
from serverless.queue.drain import Drain
from serverless.queue.job_take import JobTake

JOB = {"id": "job-1", "input": {}}


class Recorded(Drain):
    """Writes down how long it was asked to pause, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def polled(*answers: Any) -> tuple[list[Any], list[float]]:
    """What the SDK gets of these answers, and the pauses between the polls."""
    drain = Recorded()

    async def polls() -> list[Any]:
        remaining = iter(answers)

        async def poll(session: Any, wanted: int) -> Any:
            answer = next(remaining)
            if isinstance(answer, Exception):
                raise answer
            return answer

        take = JobTake(poll, drain, in_progress=lambda job_id: job_id == "running")
        return [await take(None, 8) for _ in answers]

    return asyncio.run(polls()), drain.pauses


@pytest.mark.parametrize(
    "error", [OSError("down"), TimeoutError(), TypeError(), RecursionError(), ValueError()], ids=repr
)
def test_polls_that_fail_come_less_and_less_often(error: Exception) -> None:
    got, pauses = polled(*[error] * 12)
    assert got == [None] * 12
    first, most = job_take.FAILED_SECONDS
    expected = [min(first * 2**tries, most) for tries in range(12)]
    assert all(0.49 * wait <= pause <= wait for wait, pause in zip(expected, pauses, strict=True))


def test_an_empty_answer_at_once_is_no_reason_to_ask_at_once() -> None:
    _, pauses = polled(*[None] * 10)
    assert sum(pauses) > 5
    assert max(pauses) <= job_take.EMPTY_SECONDS[1]


def test_too_many_requests_is_heeded() -> None:
    error = TooManyRequests(None, (), status=429)  # type: ignore[arg-type]
    _, pauses = polled(error, error)
    assert min(pauses) > 0.99 * job_take.TOO_MANY_REQUESTS_SECONDS


def test_jobs_come_without_a_pause_and_start_the_waits_anew() -> None:
    got, pauses = polled(OSError(), OSError(), OSError(), [JOB], OSError(), [JOB])
    assert got == [None, None, None, [JOB], None, [JOB]]
    assert len(pauses) == 4
    assert pauses[-1] <= job_take.FAILED_SECONDS[0]


def test_a_job_that_runs_is_not_handed_on_again() -> None:
    got, _ = polled([{"id": "running", "input": 1}, JOB, {**JOB, "input": 2}], {"id": "running", "input": 1})
    assert got == [[JOB], None]


def test_the_waits_of_two_workers_differ() -> None:
    waits = [[backoff.next() for _ in range(5)] for backoff in (Backoff(1, 8), Backoff(1, 8))]
    assert waits[0] != waits[1]


def test_a_drain_ends_a_pause_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for_ever = 1e9
    monkeypatch.setattr(job_take, "FAILED_SECONDS", (for_ever, for_ever))

    async def drained() -> list[str]:
        events: list[str] = []
        drain = Drain()
        drain.stops(lambda: events.append("stopped"))
        failed = asyncio.Event()

        async def poll(session: Any, wanted: int) -> Any:
            failed.set()
            raise OSError

        take = JobTake(poll, drain, in_progress=lambda job_id: False)
        task = asyncio.create_task(take(None, 8))
        await failed.wait()
        drain.begin()
        assert await task is None
        assert await take(None, 8) is None  # and nothing is asked for any more
        return events

    assert asyncio.run(drained()) == ["stopped"]


def test_a_drain_waits_for_the_poll_that_is_open_and_for_what_it_brings() -> None:
    async def drained() -> list[str]:
        events: list[str] = []
        drain = Drain()
        drain.stops(lambda: events.append("stopped"))
        brings = asyncio.Event()
        opened = asyncio.Event()

        async def poll(session: Any, wanted: int) -> Any:
            opened.set()
            await brings.wait()
            return [JOB]

        task = asyncio.create_task(JobTake(poll, drain, in_progress=lambda job_id: False)(None, 8))
        await opened.wait()
        drain.begin()
        assert events == []
        brings.set()
        assert await task == [JOB]
        assert events == []  # the SDK has not put it into its queue yet
        drain.poll_ended()
        return events

    assert asyncio.run(drained()) == ["stopped"]


def test_a_poll_that_the_sdk_cuts_off_is_over() -> None:
    """After its own time limit the SDK cancels the poll."""

    async def cut_off() -> list[str]:
        events: list[str] = []
        drain = Drain()
        drain.stops(lambda: events.append("stopped"))

        async def poll(session: Any, wanted: int) -> Any:
            await asyncio.Event().wait()

        task = asyncio.create_task(JobTake(poll, drain, in_progress=lambda job_id: False)(None, 8))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        drain.begin()
        return events

    assert asyncio.run(cut_off()) == ["stopped"]


def test_backoff_stays_below_its_most() -> None:
    backoff = Backoff(0.5, 10)
    assert max(itertools.islice(iter(backoff.next, None), 2000)) <= 10
