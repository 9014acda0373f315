"""Progress of long jobs, as the platform shows it in /status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from higgs_core.speech.progress import Progress

FIRST_AFTER_SECONDS = 3.0
EVERY_SECONDS = 2.0
# An update that arrives after the result would turn a finished job back into a running one. So none is sent when the
# job looks almost done, and a result waits until the last update has had time to arrive.
LEAST_SECONDS_LEFT = 2.0
ARRIVAL_SECONDS = 1.0


class ProgressReporter:
    """Call it with each Progress of one job; it sends the few that matter. Await `settle` before the result leaves."""

    def __init__(
        self,
        job: dict[str, Any],
        *,
        send: Callable[[dict[str, Any], Any], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """send: the SDK's `progress_update`.  clock, sleep: seconds."""
        self._job = job
        self._send = send
        self._clock = clock
        self._sleep = sleep
        self._started = clock()
        self._sent: float | None = None

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        elapsed = now - self._started
        if elapsed < FIRST_AFTER_SECONDS or (self._sent is not None and now - self._sent < EVERY_SECONDS):
            return
        if progress.share <= 0 or elapsed * (1 - progress.share) / progress.share < LEAST_SECONDS_LEFT:
            return
        self._sent = now
        self._send(
            self._job,
            {"share": round(float(progress.share), 3), "audio_seconds": round(float(progress.audio_seconds), 2)},
        )

    async def settle(self) -> None:
        """Wait until an update that was just sent has arrived."""
        if self._sent is not None:
            await self._sleep(max(0.0, self._sent + ARRIVAL_SECONDS - self._clock()))
