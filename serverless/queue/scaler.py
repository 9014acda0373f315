"""What the worker puts around the SDK's scaler, the loop that takes jobs, runs them and stops.

The scaler is found behind the signal handler that it installs. Its attributes are no documented interface: each that
is missing in another version of the SDK is left out with a warning, and the SDK goes its own way there.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

from serverless.queue.backoff import Backoff
from serverless.queue.drain import Drain
from serverless.queue.held_posts import HoldingSession
from serverless.queue.job_take import LONG_POLL_SECONDS, JobTake

logger = logging.getLogger(__name__)

USELESS_SIGNAL_SECONDS = (0.1, 2.0)  # between two stop signals for jobs that do not run: at first, and at most


class ScalerHooks:
    """Attaches to the running SDK at the first call of `between_polls`, on the SDK's event loop.

    hold_seconds: how long a result that the platform does not take is held.
    """

    def __init__(self, drain: Drain, *, hold_seconds: float) -> None:
        self._drain = drain
        self._hold_seconds = hold_seconds
        self._attached = False

    def between_polls(self) -> None:
        """Call this whenever the SDK asks for the concurrency: no poll is open then, and what the last one brought is
        in the queue."""
        if not self._attached:
            self._attached = True
            self._attach()
        self._drain.poll_ended()

    def _attach(self) -> None:
        scaler: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not hasattr(scaler, "jobs_fetcher") or not hasattr(scaler, "kill_worker"):
            logger.warning("the SDK's scaler was not found: SIGTERM drains the SDK's own way, and nothing is held")
            return
        in_progress = _in_progress(scaler)
        scaler.jobs_fetcher = JobTake(scaler.jobs_fetcher, self._drain, in_progress=in_progress)
        self._drain.stops(scaler.kill_worker)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain.begin)
        if hasattr(scaler, "jobs_handler"):
            scaler.jobs_handler = self._holding(scaler.jobs_handler)
        else:
            logger.warning("the SDK's job handler was not found: a result that the platform refuses is lost")
        if hasattr(scaler, "stop_signals_fetcher"):
            scaler.stop_signals_fetcher = _paced(scaler.stop_signals_fetcher, in_progress)

    def _holding(self, handle: Any) -> Any:
        async def handle_job(session: Any, config: dict[str, Any], job: dict[str, Any]) -> Any:
            holding = HoldingSession(session, job["id"], self._drain, hold_seconds=self._hold_seconds)
            return await handle(holding, config, job)

        return handle_job


def _in_progress(scaler: Any) -> Callable[[str], bool]:
    """Whether the SDK has a job with this id, taken and not yet answered."""
    jobs: Any = getattr(scaler, "job_progress", None)
    if not hasattr(jobs, "get"):
        logger.warning("the SDK's list of jobs was not found: one that is handed out twice runs twice")
        return lambda job_id: False
    return lambda job_id: jobs.get(job_id) is not None


def _paced(fetch: Any, in_progress: Callable[[str], bool]) -> Any:
    """The SDK asks for stop signals again at once after one, also after one that is of no use."""
    backoff = Backoff(*USELESS_SIGNAL_SECONDS)

    async def stop_signals(session: Any) -> Any:
        started = time.monotonic()
        job_ids = await fetch(session)
        if not job_ids or any(map(in_progress, job_ids)) or time.monotonic() - started >= LONG_POLL_SECONDS:
            backoff.reset()
        else:
            await asyncio.sleep(backoff.next())
        return job_ids

    return stop_signals
