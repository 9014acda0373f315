"""Results and stream items that the platform does not take at once are held and sent again.

The SDK sends a result once. It tries twice more within five seconds after a status of 500 or above, and never after
any other status, a broken connection or a time-out: it writes a line to the log, and the job hangs until the
platform's own time limit. So the SDK is given this session in place of its own.

A result that is sent twice is the same result under the same job id. An item of a stream carries its index.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from higgs_core.errors import DeliveryError
from serverless.delivery.serialise import error_json
from serverless.queue.backoff import Backoff
from serverless.queue.drain import Drain

logger = logging.getLogger(__name__)

WAIT_SECONDS = (0.5, 10.0)  # between two attempts: at first, and at most
MAX_RETRY_AFTER_SECONDS = 30.0
ANSWER_SECONDS = 30.0  # for one attempt, and the time that the bytes take on a slow line
SLOW_LINE_BYTES = 100_000  # a second
DRAINING_SECONDS = 30.0  # for which a post is held once the worker was told to end
MAX_REFUSALS = 6
PLATFORM_LIMIT_BYTES = 20_000_000
_NOT_NOW = {408, 425, 429}
_ITEM_PATH = "/job-stream/"


class HoldingSession:
    """An aiohttp session for one job, whose POSTs are tried again until the platform has taken them.

    hold_seconds: how long the job's results, and its stream items together, may be held. A status of 400 to 499 other
    than 408, 425 and 429 is final after `MAX_REFUSALS` attempts; a result that was refused so is replaced by an error.
    """

    def __init__(self, session: Any, job_id: str, drain: Drain, *, hold_seconds: float) -> None:
        self.headers: dict[str, str] = {}  # the job's own; the SDK sets its id in the headers of the session
        self._session = session
        self._job_id = job_id
        self._drain = drain
        self._hold = hold_seconds
        self._seconds_left: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def request(self, method: str, url: Any, **options: Any) -> aiohttp.ClientResponse:
        """As aiohttp's. Raises aiohttp.ClientError when no attempt was answered."""
        options["headers"] = {**self.headers, **(options.get("headers") or {})}
        if method.upper() != "POST":
            return await self._session.request(method, url, **options)  # type: ignore[no-any-return]
        return await _Post(self, str(url), options).deliver()

    # -- For _Post ----------------------------------------------------------------------------------------------------

    async def attempt(self, url: str, options: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """One POST. Raises aiohttp.ClientError, TimeoutError or OSError."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS + len(options.get("data") or "") / SLOW_LINE_BYTES)
        return await self._session.request("POST", url, **{**options, "timeout": timeout})  # type: ignore[no-any-return]

    def seconds_left(self, url: str, started: float) -> float:
        """How long a post that first failed at `started` may still be held."""
        now = time.monotonic()
        left = self._seconds_left.get(url, self._hold) - (now - started)
        if self._drain.began is None:
            return left
        return min(left, max(started, self._drain.began) + DRAINING_SECONDS - now)

    def spend(self, url: str, started: float, *, all_of_it: bool) -> None:
        """Count the time in which a post of this address was held; after `all_of_it` the next one is tried once."""
        left = self._seconds_left.get(url, self._hold) - (time.monotonic() - started)
        self._seconds_left[url] = 0.0 if all_of_it else left

    async def pause(self, seconds: float) -> None:
        await self._drain.pause(seconds)

    def log(self, level: int, sentence: str, *values: object) -> None:
        logger.log(level, sentence, *values, extra={"job_id": self._job_id})


class _Post:
    """One result or one stream item on its way."""

    def __init__(self, session: HoldingSession, url: str, options: dict[str, Any]) -> None:
        self._session = session
        self._url = url
        self._options = options
        self._what = "a stream item" if _ITEM_PATH in url else "the result"
        self._refusals = 0

    async def deliver(self) -> aiohttp.ClientResponse:
        backoff = Backoff(*WAIT_SECONDS)
        started = None
        attempts = 0
        while True:
            attempts += 1
            answer = await self._attempt()
            if isinstance(answer, aiohttp.ClientResponse) and answer.status < 400:
                if started is not None:
                    self._session.log(logging.INFO, "%s was taken at attempt %d", self._what, attempts)
                    self._session.spend(self._url, started, all_of_it=False)
                return answer
            if started is None:
                started = time.monotonic()
                self._session.log(
                    logging.WARNING, "the platform did not take %s (%s); it is held", self._what, _reason(answer)
                )
            wait = max(backoff.next(), _retry_after(answer))
            if self._refused(answer) or wait > self._session.seconds_left(self._url, started):
                self._session.spend(self._url, started, all_of_it=True)
                return await self._give_up(answer, attempts)
            if isinstance(answer, aiohttp.ClientResponse):
                answer.release()
            await self._session.pause(wait)

    async def _attempt(self) -> aiohttp.ClientResponse | Exception:
        try:
            return await self._session.attempt(self._url, self._options)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return error

    def _refused(self, answer: aiohttp.ClientResponse | Exception) -> bool:
        """Whether sending the same bytes again can be of no use."""
        if isinstance(answer, Exception) or answer.status in _NOT_NOW or answer.status >= 500:
            return False
        self._refusals += 1
        too_large = answer.status == 413 or self._size > PLATFORM_LIMIT_BYTES
        return too_large or self._refusals >= MAX_REFUSALS

    @property
    def _size(self) -> int:
        return len(self._options.get("data") or "")

    async def _give_up(self, answer: aiohttp.ClientResponse | Exception, attempts: int) -> aiohttp.ClientResponse:
        self._session.log(
            logging.ERROR, "the platform did not take %s in %d attempts (%s)", self._what, attempts, _reason(answer)
        )
        if isinstance(answer, Exception):
            raise aiohttp.ClientConnectionError(f"no answer to {self._what}") from None
        # Were another attempt's fate unknown, the platform might have the result and refuse it for that reason.
        if attempts == self._refusals and _ITEM_PATH not in self._url:
            answer.release()
            self._options["data"] = _error_in_place_of(self._options.get("data"), answer.status)
            answer = await self._attempt()
            if isinstance(answer, Exception):
                raise aiohttp.ClientConnectionError(f"no answer to {self._what}") from None
        return answer


def _error_in_place_of(data: Any, status: int) -> str:
    """A job's result as the SDK sends it, for one that the platform refused."""
    error = error_json(
        DeliveryError(
            f"The platform refused the result with status {status}; it has {len(data or '') / 1e6:.1f} MB.",
            hint="Use delivery s3, response_format mp3 or opus, or ask for less speech at a time.",
        )
    )
    stop = '"stopPod": true' in str(data)[-64:]  # the SDK adds it last
    return json.dumps({"error": error.pop("error"), "output": error} | ({"stopPod": True} if stop else {}))


def _retry_after(answer: aiohttp.ClientResponse | Exception) -> float:
    """The seconds that the platform asks for, at most MAX_RETRY_AFTER_SECONDS."""
    said = "" if isinstance(answer, Exception) else answer.headers.get("Retry-After", "")
    return min(float(said), MAX_RETRY_AFTER_SECONDS) if said.isascii() and said.isdecimal() else 0.0


def _reason(answer: aiohttp.ClientResponse | Exception) -> str:
    return type(answer).__name__ if isinstance(answer, Exception) else f"status {answer.status}"
