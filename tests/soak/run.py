"""The soak itself: both doors at once, in windows of as many jobs, each followed by a look at the idle process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.fake_platform import FakePlatform
from tests.soak.clip_server import clip_server
from tests.soak.door import WatchedDoor
from tests.soak.http_door import HttpDoor
from tests.soak.ledger import Ledger
from tests.soak.planned import Door, Kind, Planned
from tests.soak.queue_door import QueueDoor
from tests.soak.traffic import one_round
from tests.soak.watch import Sample, Watch

LANES = 6
"""Jobs in flight at each door: fewer than the worker has slots, as the SDK pauses for a second when all are taken."""

WINDOW = 50
"""Jobs between two looks at an idle process."""

LEAST_WINDOWS = 6
"""Also where the time is up: fewer would say nothing about growth."""


@dataclass
class Soaked:
    """What became of one door. rests: one sample of the idle process before the first window and after each."""

    door: Door
    ledger: Ledger
    samples: list[Sample]
    rests: list[Sample] = field(default_factory=list)
    exit_status: int | None = None


def soak(
    seconds: float,
    folder: Path,
    *,
    seed: int = 0,
    doors: tuple[Door, ...] = ("queue", "http"),
    kinds: frozenset[Kind] | None = None,
    **environment: str,
) -> list[Soaked]:
    """Send jobs for so long, LEAST_WINDOWS windows at the least; then end the processes as the platform does.

    folder: for the processes' logs.  kinds: of jobs; None is all.  environment: of both processes.
    Raises AssertionError when a process ends on its own.
    """
    with ExitStack() as stack:
        address = stack.enter_context(clip_server())
        opened: list[WatchedDoor] = []
        if "queue" in doors:
            opened.append(QueueDoor(stack.enter_context(FakePlatform()), folder / "queue.log", **environment))
        if "http" in doors:
            opened.append(HttpDoor(folder / "http.log", **environment))
        for door in opened:
            stack.enter_context(door.process)
        for door in opened:
            door.wait_until_ready()
        began = time.monotonic()
        soaked = []
        threads = []
        errors: list[BaseException] = []
        for door in opened:
            watch = Watch(door.process.process.pid, lambda ledger=door.ledger: ledger.settled, began)  # type: ignore[misc]
            stack.enter_context(watch.running())
            result = Soaked(door.name, door.ledger, watch.samples)
            soaked.append(result)
            planned = _endless(door.name, seed, address, kinds)
            threads.append(
                threading.Thread(
                    target=_windows, args=(door, watch, result, planned, began + seconds, errors), name=door.name
                )
            )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        for door, result in zip(opened, soaked, strict=True):
            result.exit_status = door.end()
    return soaked


def _endless(door: Door, seed: int, address: str, kinds: frozenset[Kind] | None) -> Iterator[Planned]:
    number = 0
    while True:
        yield from (job for job in one_round(door, seed, number, address) if kinds is None or job.kind in kinds)
        number += 1


def _windows(
    door: WatchedDoor,
    watch: Watch,
    result: Soaked,
    planned: Iterator[Planned],
    until: float,
    errors: list[BaseException],
) -> None:
    try:
        result.rests.append(watch.at_rest())
        while len(result.rests) <= LEAST_WINDOWS or time.monotonic() < until:
            _one_window(door, [next(planned) for _ in range(WINDOW)])
            door.wait_until_idle()
            door.reconcile()
            result.rests.append(watch.at_rest())
    except BaseException as error:
        errors.append(error)


def _one_window(door: WatchedDoor, planned: list[Planned]) -> None:
    """All lanes take jobs from one list until it is empty."""
    left = iter(planned)
    lock = threading.Lock()

    def lane() -> None:
        while True:
            with lock:
                job = next(left, None)
            if job is None:
                return
            door.perform(job)

    lanes = [threading.Thread(target=lane, name=f"{door.name}-lane-{number}") for number in range(LANES)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
