"""How long, how often and with which headers a post is sent again; test_platform_faults.py does it with the SDK."""

from __future__ import annotations

import asyncio
import json
import logging

import aiohttp
import pytest

from serverless.queue import held_posts
from serverless.queue.drain import Drain
from serverless.queue.held_posts import HoldingSession
from tests.helpers.fake_platform import STREAM_LIMIT, FakePlatform, Fault

RESULT = json.dumps({"output": {"seed": 1}})


class Clock:
    """Monotonic seconds that pass while a Drain pauses."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class ClockedDrain(Drain):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.pauses: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(held_posts, "time", clock)
    return clock


def address(platform: FakePlatform, path: str, job_id: str) -> str:
    return f"http://127.0.0.1:{platform.port}/v2/endpoint/{path}/worker-1/{job_id}?isStream=false"


def posted(
    platform: FakePlatform, clock: Clock, path: str, *bodies: str, draining: bool = False
) -> tuple[list[int | str], ClockedDrain]:
    """What became of each body of one job: the status, or the name of the exception."""
    record = platform.submit({})
    drain = ClockedDrain(clock)
    if draining:
        drain.began = clock.now

    async def post() -> list[int | str]:
        ends: list[int | str] = []
        async with aiohttp.ClientSession() as session:
            holding = HoldingSession(session, record.job["id"], drain, hold_seconds=100)
            for body in bodies:
                try:
                    ends.append(
                        (await holding.request("POST", address(platform, path, record.job["id"]), data=body)).status
                    )
                except aiohttp.ClientError as error:
                    ends.append(type(error).__name__)
        return ends

    return asyncio.run(post()), drain


def test_a_platform_in_trouble_is_tried_until_the_time_is_up(clock: Clock) -> None:
    with FakePlatform() as platform:
        platform.keeps_failing("job-done", Fault(503))
        ends, drain = posted(platform, clock, "job-done", RESULT, RESULT)
        assert ends == [503, 503]
        assert 80 < sum(drain.pauses) <= 100
        assert len(platform.arrivals["job-done"]) == len(drain.pauses) + 2  # the second is tried once


def test_a_worker_that_is_to_end_tries_for_a_shorter_time(clock: Clock) -> None:
    with FakePlatform() as platform:
        platform.keeps_failing("job-done", Fault(503))
        _, drain = posted(platform, clock, "job-done", RESULT, draining=True)
    assert 0 < sum(drain.pauses) <= held_posts.DRAINING_SECONDS


def test_no_answer_at_all_is_an_error_that_the_sdk_knows(clock: Clock) -> None:
    with FakePlatform() as platform:
        platform.keeps_failing("job-done", Fault(reset=True))
        assert posted(platform, clock, "job-done", RESULT)[0] == ["ClientConnectionError"]


@pytest.mark.parametrize(
    ("asked", "waited"), [("20", 20), ("99999999", 30), ("-5", 0.5), ("soon", 0.5), ("\u0663", 0.5), ("1e3", 0.5)]
)
def test_the_wait_that_the_platform_asks_for_is_bounded(clock: Clock, asked: str, waited: float) -> None:
    with FakePlatform() as platform:
        platform.fails("job-done", Fault(429, headers={"Retry-After": asked}))
        ends, drain = posted(platform, clock, "job-done", RESULT)
    assert ends == [200]
    assert waited / 2 <= drain.pauses[0] <= waited


def test_what_is_too_large_is_not_sent_again(clock: Clock) -> None:
    with FakePlatform() as platform:
        ends, drain = posted(platform, clock, "job-done", json.dumps({"output": "x" * 20_000_001}))
        (record,) = platform.records.values()
        assert ends == [200]
        assert drain.pauses == []
        assert "status 400" in record.result["error"]
        assert "20.0 MB" in record.result["error"]


def test_a_stream_item_that_is_refused_makes_room_for_the_next(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    large = json.dumps({"output": "x" * (STREAM_LIMIT + 1)})
    with caplog.at_level(logging.INFO, "serverless.queue"), FakePlatform() as platform:
        ends, drain = posted(platform, clock, "job-stream", large, RESULT, large)
    assert ends == [400, 200, 400]
    assert len(drain.pauses) == held_posts.MAX_REFUSALS - 1  # for the first alone
    assert "xxx" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_an_error_in_a_results_place_still_asks_for_a_new_worker(clock: Clock) -> None:
    with FakePlatform() as platform:
        platform.fails("job-done", *[Fault(404)] * held_posts.MAX_REFUSALS)
        posted(platform, clock, "job-done", json.dumps({"output": {"stopPod": False}, "stopPod": True}))
        (record,) = platform.records.values()
        assert record.result["stopPod"] is True
        platform.fails("job-done", *[Fault(404)] * held_posts.MAX_REFUSALS)
        posted(platform, clock, "job-done", RESULT)
        assert "stopPod" not in list(platform.records.values())[1].result


def test_a_result_that_may_have_arrived_is_not_replaced_by_an_error(clock: Clock) -> None:
    """The platform may refuse a repeated result because it has it."""
    with FakePlatform() as platform:
        platform.fails("job-done", Fault(reset=True, handled=True), *[Fault(400)] * 6)
        assert posted(platform, clock, "job-done", RESULT)[0] == [400]
        (record,) = platform.records.values()
        assert record.result == json.loads(RESULT)


def test_each_job_has_headers_of_its_own() -> None:
    session = aiohttp.ClientSession.__new__(aiohttp.ClientSession)
    first, second = (HoldingSession(session, name, Drain(), hold_seconds=1) for name in ("a", "b"))
    first.headers["X-Request-ID"] = "a"
    second.headers["X-Request-ID"] = "b"
    assert (first.headers, second.headers) == ({"X-Request-ID": "a"}, {"X-Request-ID": "b"})
