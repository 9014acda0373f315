"""Finds a thread that hangs in one call, or that has ended unasked. Imports no torch and makes no call of CUDA's.

A call that hangs in a driver cannot be ended: it holds its thread and whoever waits for it. What can be done is to tell
those who wait, and to end the process.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from higgs_core.errors import EngineStoppedError
from higgs_core.failures.failure_latch import FailureLatch

log = logging.getLogger(__name__)

WARM_UP_FACTOR = 5
"""How many times longer a call may take while its thread's first work is not done: that loads, compiles, captures."""

_LOOKS_IN_A_LIMIT = 20
_LONGEST_PAUSE = 5.0  # seconds from one look to the next


class Heartbeat:
    """What one thread is at. Written by that thread alone, which pays an addition and a store for it.

    calls: how many calls it has begun.  busy: whether it is inside one.  warm: whether its first work is done.
    """

    __slots__ = ("busy", "calls", "warm")

    def __init__(self) -> None:
        self.calls = 0
        self.busy = False
        self.warm = False

    def beat(self) -> None:
        """A call begins, and the one before it has ended."""
        self.calls += 1
        self.busy = True

    def rest(self) -> None:
        """The last call has ended, and the thread waits for work."""
        self.busy = False


@dataclass(eq=False)
class Watched:
    """A thread under watch.

    name: for sentences, such as "engine".  lost: whether it has ended although nobody closed it.
    """

    name: str
    thread: threading.Thread
    heartbeat: Heartbeat
    lost: Callable[[], bool]
    _call: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)

    def seconds_in_call(self, passed: float) -> float:
        """How long it has been in its call, `passed` seconds after it was asked last; less by up to these."""
        calls, busy = self.heartbeat.calls, self.heartbeat.busy
        self._seconds = self._seconds + passed if busy and calls == self._call else 0.0
        self._call = calls
        return self._seconds


class Watchdog:
    """A thread that looks at others several times within `limit` seconds and trips the latch when one hangs.

    Time is counted from look to look, and no more of it than two pauses: a machine that was suspended, a process that
    was stopped and a clock that jumps make no call overdue.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        failure: FailureLatch,
        limit: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """limit: seconds that one call may take, `WARM_UP_FACTOR` times as many while its thread is not warm."""
        self._watched = watched
        self._failure = failure
        self._limit = limit
        self._pause = min(limit / _LOOKS_IN_A_LIMIT, _LONGEST_PAUSE)
        self._clock = clock
        self._looked = clock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="higgs-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def look(self) -> None:
        """Trip the latch if a thread is lost, or has been in one call for longer than the limit."""
        now = self._clock()
        passed = min(max(now - self._looked, 0.0), 2 * self._pause)
        self._looked = now
        for each in self._watched:
            seconds = each.seconds_in_call(passed)
            if each.lost():
                self._failure.trip(EngineStoppedError(f"The {each.name}'s thread has ended; {_REPLACED}"))
            elif seconds > (self._limit if each.heartbeat.warm else self._limit * WARM_UP_FACTOR):
                log.error("The %s has been in one call for %.0f s:\n%s", each.name, seconds, _places(each.thread))
                self._failure.trip(EngineStoppedError(f"The {each.name} does not answer any more; {_REPLACED}"))

    def _run(self) -> None:
        while not self._failure.tripped and not self._closed.wait(self._pause):
            self.look()


_REPLACED = "this worker is being replaced."


def _places(thread: threading.Thread) -> str:
    """Where a thread is, a line a frame: file, line and function, and no values."""
    frame = sys._current_frames().get(thread.ident or 0)
    places = [] if frame is None else traceback.extract_stack(frame)
    return "\n".join(f"  {os.path.basename(place.filename)}:{place.lineno} in {place.name}" for place in places)
