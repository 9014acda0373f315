"""SIGTERM without a lost job.

The SDK stops running jobs from the queue as soon as the signal comes, while its long poll for more is still open: a
job that this poll brings back is taken from the platform and never run. So the poll may end first, and the SDK is told
to stop when what it brought is in the queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)


class Drain:
    """Whether the worker still takes jobs. Everything happens on the SDK's event loop."""

    def __init__(self) -> None:
        self.began: float | None = None
        """When it began, in seconds of the monotonic clock."""
        self._begun = asyncio.Event()
        self._stop_sdk: Callable[[], None] | None = None
        self._polling = False

    @property
    def draining(self) -> bool:
        return self.began is not None

    def stops(self, stop_sdk: Callable[[], None]) -> None:
        """Call `stop_sdk` when no poll for jobs is open any more. Without it the SDK drains its own way."""
        self._stop_sdk = stop_sdk

    def begin(self) -> None:
        """Take no more jobs, finish those that were taken, then let the process end."""
        if self.draining:
            return
        self.began = time.monotonic()
        self._begun.set()
        logger.info("draining: running jobs finish, no new ones are taken")
        if not self._polling:
            self._stop()

    def poll_begins(self) -> None:
        """From now on the platform may hand out jobs."""
        self._polling = True

    def poll_ended(self) -> None:
        """No poll is open, and what the last one brought is in the SDK's queue."""
        self._polling = False
        if self.draining:
            self._stop()

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the moment in which draining begins."""
        if self.draining:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), seconds)

    def _stop(self) -> None:
        if self._stop_sdk is not None:
            self._stop_sdk()
