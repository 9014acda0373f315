"""How many jobs of a batch are in flight: as many as the server takes.

Additive increase and multiplicative decrease, with a slow start, as TCP's congestion control has them (RFC 5681): one
more for every job that was taken until the first refusal, then one more for each round of them; half of them after a
refusal. Refusals of jobs that were sent before the last decrease do not count again.
"""

from __future__ import annotations

import asyncio
import math

FIRST_LIMIT = 2
MOST = 100
"""Jobs in flight, whatever the server takes: the platform limits how often their states may be asked for."""


class Pace:
    """fixed: as many at once, whatever happens. Its methods belong to one event loop."""

    def __init__(self, fixed: int | None = None) -> None:
        self.limit = fixed or FIRST_LIMIT
        self._fixed = fixed is not None
        self._threshold = math.inf
        self._part = 0.0
        self._epoch = 0
        self._in_flight = 0
        self._not_before = 0.0
        self._changed = asyncio.Condition()

    @property
    def in_flight(self) -> int:
        return self._in_flight

    async def acquire(self) -> int:
        """A place for one job. Returns what `refused` asks for."""
        async with self._changed:
            while (wait := self._wait()) > 0:
                try:
                    async with asyncio.timeout(None if wait == math.inf else wait):
                        await self._changed.wait()
                except TimeoutError:
                    continue
            self._in_flight += 1
            return self._epoch

    async def release(self) -> None:
        async with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    async def taken(self) -> None:
        """The server has taken a job."""
        if self._fixed or self._in_flight < self.limit or self.limit >= MOST:
            return
        self._part += 1.0 if self.limit < self._threshold else 1.0 / self.limit
        if self._part >= 1.0:
            self._part = 0.0
            self.limit += 1
            async with self._changed:
                self._changed.notify_all()

    async def refused(self, epoch: int, retry_after: float) -> None:
        """The server had no room for a job that got its place in `epoch`. retry_after: seconds until the next try."""
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + retry_after)
        if not self._fixed and epoch == self._epoch:
            self._epoch += 1
            self._part = 0.0
            self.limit = max(1, self.limit // 2)
            self._threshold = self.limit

    def _wait(self) -> float:
        """Seconds until there may be a place; infinite while somebody has to leave first."""
        if self._in_flight >= self.limit:
            return math.inf
        return self._not_before - asyncio.get_running_loop().time()
