"""What the platform hands out, made safe for the SDK: polls at a bounded rate, and jobs that it can run.

The SDK asks for jobs again at once after any answer, so that a platform in trouble is asked thousands of times a
second. And it runs whatever a list of jobs holds: an entry without an id ends the whole worker, and a job that is
handed out twice runs and answers twice.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from serverless.queue.backoff import Backoff
from serverless.queue.drain import Drain

logger = logging.getLogger(__name__)

FAILED_SECONDS = (0.5, 10.0)  # between two polls that failed: at first, and at most
EMPTY_SECONDS = (0.1, 2.0)  # between two polls that were answered at once and without a job
TOO_MANY_REQUESTS_SECONDS = 5.0  # at least, as the SDK does it
LONG_POLL_SECONDS = 1.0  # one that stayed open for longer paces itself

# An id becomes part of an address, a header and a list with commas.
_JOB_ID = re.compile(r"(?!\.{1,2}$)[!$'()*+.0-9:;<=>@A-Z^_`a-z{|}~\[\]-]{1,256}")

Poll = Callable[[Any, int], Awaitable[Any]]


class JobTake:
    """In place of the SDK's function that asks for jobs.

    poll: that function.  in_progress: whether a job with this id is taken and not yet answered.
    """

    def __init__(self, poll: Poll, drain: Drain, *, in_progress: Callable[[str], bool]) -> None:
        self._poll = poll
        self._drain = drain
        self._in_progress = in_progress
        self._failed = Backoff(*FAILED_SECONDS)
        self._empty = Backoff(*EMPTY_SECONDS)
        self._failures = 0

    async def __call__(self, session: Any, wanted: int) -> list[dict[str, Any]] | None:
        """The jobs of one poll, or None. It returns when the next poll may be sent."""
        if self._drain.draining:
            return None
        started = time.monotonic()
        jobs: list[dict[str, Any]] = []
        self._drain.poll_begins()
        try:
            jobs = self._runnable(await self._poll(session, wanted))
            self._succeeded()
            wait = self._empty.next()
        except Exception as error:
            wait = self._next_after(error)
        finally:
            if not jobs:  # those that there are go into the SDK's queue first
                self._drain.poll_ended()
        lasted = time.monotonic() - started
        if jobs or lasted >= LONG_POLL_SECONDS:
            self._empty.reset()
        if jobs:
            return jobs
        if lasted < wait:
            await self._drain.pause(wait - lasted)
        return None

    def _succeeded(self) -> None:
        if self._failures:
            logger.info("the platform answers again when it is asked for jobs")
        self._failures = 0
        self._failed.reset()

    def _next_after(self, error: Exception) -> float:
        """Seconds until the next poll."""
        status = getattr(error, "status", None)
        if not self._failures:
            why = f"status {status}" if isinstance(status, int) else type(error).__name__
            logger.warning("asking the platform for jobs failed (%s); it is asked again, less and less often", why)
        self._failures += 1
        wait = self._failed.next()
        return max(wait, TOO_MANY_REQUESTS_SECONDS) if status == 429 else wait

    def _runnable(self, answer: Any) -> list[dict[str, Any]]:
        """Those jobs of a poll's answer that can be run and answered, each once."""
        if not answer:
            return []
        jobs: dict[str, dict[str, Any]] = {}
        unusable = doubles = 0
        for job in answer if isinstance(answer, list) else [answer]:
            job_id = job.get("id") if isinstance(job, dict) else None
            if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
                unusable += 1
            elif job_id in jobs or self._in_progress(job_id):
                doubles += 1
            else:
                jobs[job_id] = {key: value for key, value in job.items() if _is_attribute(key)}
        if unusable:
            logger.warning("%d jobs without a usable id were handed out; they cannot be answered", unusable)
        if doubles:
            logger.warning("%d jobs that run already were handed out again; each is answered once", doubles)
        return list(jobs.values())


def _is_attribute(key: str) -> bool:
    """The SDK makes each key of a job an attribute of an object."""
    return key.isidentifier() and not key.startswith("_") and key != "self"
