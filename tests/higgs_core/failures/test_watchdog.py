"""The watchdog, on a clock that the test drives: what counts as a hang, what does not, and who is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from higgs_core.errors import EngineStoppedError
from higgs_core.failures.failure_latch import FailureLatch
from higgs_core.failures.watchdog import WARM_UP_FACTOR, Heartbeat, Watchdog, Watched
from tests.helpers.patience import PATIENCE

LIMIT = 40.0
PAUSE = 2.0
HOURS = 3600.0


@dataclass
class Post:
    """A watchdog that looks when the test says so, at one thread."""

    thread: threading.Thread
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    failure: FailureLatch = field(default_factory=FailureLatch)
    now: float = 1000.0
    lost: bool = False

    def __post_init__(self) -> None:
        self.heartbeat.warm = True
        watched = Watched("engine", self.thread, self.heartbeat, lambda: self.lost)
        self.watchdog = Watchdog([watched], self.failure, LIMIT, clock=lambda: self.now)

    def look(self, seconds: float, *, step: float = PAUSE) -> None:
        """Look as often as the watchdog would in so many seconds."""
        for _ in range(round(seconds / step)):
            self.now += step
            self.watchdog.look()


@pytest.fixture
def post() -> Iterator[Post]:
    """Beside a thread that waits in `stuck`."""
    reached, go_on = threading.Event(), threading.Event()

    def stuck() -> None:
        reached.set()
        go_on.wait(PATIENCE)

    thread = threading.Thread(target=stuck)
    thread.start()
    assert reached.wait(PATIENCE)
    yield Post(thread)
    go_on.set()
    thread.join(PATIENCE)


def test_a_call_that_outlasts_the_limit_is_a_hang_and_its_place_is_logged(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    post.heartbeat.beat()
    post.look(LIMIT)
    assert not post.failure.tripped
    post.look(3 * PAUSE)
    assert str(post.failure.error) == "The engine does not answer any more; this worker is being replaced."
    assert "in stuck" in caplog.text
    assert "/" not in "".join(line for line in caplog.text.splitlines() if " in stuck" in line)


def test_many_calls_that_are_each_within_the_limit_are_none(post: Post) -> None:
    for _ in range(20):
        post.heartbeat.beat()
        post.look(LIMIT * 0.9)
    assert not post.failure.tripped


def test_a_thread_that_waits_for_work_may_do_so_for_ever(post: Post) -> None:
    post.heartbeat.beat()
    post.heartbeat.rest()
    post.look(100 * LIMIT)
    assert not post.failure.tripped


def test_first_work_may_take_longer(post: Post) -> None:
    post.heartbeat.warm = False
    post.heartbeat.beat()
    post.look(LIMIT * WARM_UP_FACTOR)
    assert not post.failure.tripped
    post.look(3 * PAUSE)
    assert post.failure.tripped


def test_a_clock_that_jumps_and_a_machine_that_sleeps_make_no_call_overdue(post: Post) -> None:
    """As when a container is frozen in mid-call and thawed days later, or starved of its CPUs for minutes."""
    post.heartbeat.beat()
    for jump in (HOURS, -HOURS, 100 * HOURS, LIMIT):
        post.now += jump
        post.watchdog.look()
        post.look(PAUSE)
    assert not post.failure.tripped
    post.look(LIMIT)
    assert post.failure.tripped


def test_a_thread_that_has_ended_unasked_is_found(post: Post) -> None:
    post.lost = True
    post.watchdog.look()
    assert str(post.failure.error) == "The engine's thread has ended; this worker is being replaced."


def test_its_thread_looks_by_itself_and_ends_when_it_has_found_something(post: Post) -> None:
    found = threading.Event()
    watched = Watched("engine", post.thread, Heartbeat(), lambda: True)
    failure = FailureLatch()
    failure.on_trip(lambda _: found.set())
    watchdog = Watchdog([watched], failure, 0.1)
    watchdog.start()
    assert found.wait(PATIENCE)
    watchdog.close()
    watchdog.close()


class TestLatch:
    def test_the_first_failure_is_told_to_all_whatever_one_of_them_raises(self) -> None:
        heard: list[str] = []

        def deaf(_: EngineStoppedError) -> None:
            raise SystemExit

        latch = FailureLatch()
        latch.on_trip(deaf)
        latch.on_trip(lambda error: heard.append(error.message))
        latch.trip(EngineStoppedError("first"))
        latch.trip(EngineStoppedError("second"))
        latch.on_trip(lambda error: heard.append(f"late: {error.message}"))
        assert heard == ["first", "late: first"]
        assert str(latch.error) == "first"

    def test_everybody_raises_an_error_of_their_own(self) -> None:
        """A shared one would grow a longer trace with every thread that raises it."""
        latch = FailureLatch()
        latch.trip(EngineStoppedError("gone"))
        assert latch.error is not latch.error

    def test_who_comes_while_it_trips_is_told_once(self) -> None:
        latch, heard = FailureLatch(), [0] * 200
        start = threading.Barrier(3)

        def come(numbers: range) -> None:
            start.wait(PATIENCE)
            for number in numbers:
                latch.on_trip(lambda _, number=number: heard.__setitem__(number, heard[number] + 1))  # type: ignore[misc]

        threads = [threading.Thread(target=come, args=(range(first, 200, 2),)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE)
        latch.trip(EngineStoppedError("gone"))
        for thread in threads:
            thread.join(PATIENCE)
        assert heard == [1] * 200
