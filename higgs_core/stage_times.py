"""How long each stage of a start took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimes:
    """Seconds by stage, in the order in which they began. A stage that is entered again is added to.

    clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A `with` block around a stage."""
        started = self._clock()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.add(name, self._clock() - started)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def line(self) -> str:
        """All stages and their sum: "imports=4.91 files=0.00 … total=9.80"."""
        stages = self.seconds | {"total": sum(self.seconds.values())}
        return " ".join(f"{name}={seconds:.2f}" for name, seconds in stages.items())


def process_age() -> float | None:
    """Seconds since this process was started, or None where the system does not say (it is asked for /proc)."""
    try:
        with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
            started_ticks = float(stat.read().rpartition(")")[2].split()[19])  # field 22, counted from 1
            return float(uptime.read().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
