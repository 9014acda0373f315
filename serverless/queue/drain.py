"""SIGTERM without a lost job.

The SDK stops running jobs from the queue as soon as the signal comes, while its long poll for more is still open: a
job that this poll brings back is taken from the platform and never run. So the poll may end first, and the SDK is told
to stop when what it brought is in the queue. That needs the SDK's scaler, which is found behind the signal handler that
it installs; an SDK without one drains its own way.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

logger = logging.getLogger(__name__)


class Drain:
    """Handles the signals in place of the SDK. Everything happens on the SDK's event loop."""

    def __init__(self) -> None:
        self.draining = False
        self._scaler: Any = None
        self._attached = False
        self._polling = False

    def between_polls(self) -> None:
        """Call this whenever the SDK asks for the concurrency: no poll is open then, and what the last one brought is
        in the queue. The first call attaches to the running SDK."""
        if not self._attached:
            self._attached = True
            self._attach()
        self._polling = False
        if self.draining:
            self._stop_sdk()

    def begin(self) -> None:
        """Take no more jobs, finish those that were taken, then let the process end."""
        if self.draining:
            return
        self.draining = True
        logger.info("draining: running jobs finish, no new ones are taken")
        if not self._polling:
            self._stop_sdk()

    def _attach(self) -> None:
        scaler: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not hasattr(scaler, "jobs_fetcher") or not hasattr(scaler, "kill_worker"):
            logger.warning("the SDK's scaler was not found: SIGTERM drains the SDK's own way")
            return
        self._scaler = scaler
        poll = scaler.jobs_fetcher

        async def take(session: Any, wanted: int) -> Any:
            if self.draining:
                return None
            self._polling = True
            return await poll(session, wanted)

        scaler.jobs_fetcher = take
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin)

    def _stop_sdk(self) -> None:
        if self._scaler is not None:
            self._scaler.kill_worker()
