"""The three ways to a deployed endpoint: RunPod's queue, its stream, and the HTTP server.

Each transport takes the job and yields dicts: partial ones with `progress` (share done, seconds of audio), then the
result, or the items of a stream. All `audio_base64` joined is the file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any, Protocol

from serverless.client.errors import ClientError, JobGoneError, PassingError, PollError, printable
from serverless.client.items import PartOrder, checked, failure
from serverless.client.link import Answer, Json, Link, parsed

POLL_SECONDS = (0.5, 1.0, 2.0)  # then the last one, again and again
PATIENCE_SECONDS = 300  # with a server that is loading or busy
JOB_SECONDS = 86_400  # for which the platform keeps a job
CANCEL_SECONDS = 5  # for telling the platform that nobody waits any more
_COME_BACK = 503
_NOT_FOUND = 404
_RUNNING = {"IN_QUEUE", "IN_PROGRESS"}
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")


class Transport(Protocol):
    """base_url: without the last slash. key: the bearer key, if any.

    held: what closing `send` now would wait for, in words.
    """

    base_url: str
    key: str | None
    held: str | None

    def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]: ...


class QueueTransport:
    """POST /run, then GET /status until the job ends."""

    def __init__(self, base_url: str, key: str | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key
        self.held: str | None = None

    def body(self, job: Mapping[str, Any]) -> Json:
        """What is posted to /run."""
        return dict(job)

    async def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        """Submit the job and follow it. Closing the generator early cancels the job."""
        async with Link(self.key) as link:
            job_id = await self.submit(link, job)
            ended = False
            self.held = "the endpoint to cancel the job"
            try:
                async for item in self.follow(link, job_id):
                    ended = item.get("state") not in _RUNNING
                    self.held = None if ended else self.held
                    yield item
                ended = True
            except ClientError:
                ended = True  # what the platform said of the job, or a platform that cannot be asked
                raise
            finally:
                if not ended:
                    with suppress(ClientError, TimeoutError):
                        async with asyncio.timeout(CANCEL_SECONDS):
                            await link.post(f"{self.base_url}/cancel/{job_id}", {})

    async def submit(self, link: Link, job: Mapping[str, Any]) -> str:
        """The id that the platform gives the job. Sent once. Raises ClientError."""
        return job_id_of(await link.post(f"{self.base_url}/run", self.body(job)))

    async def follow(self, link: Link, job_id: str) -> AsyncGenerator[Json, None]:
        """The items of a job that was submitted, also long ago or by another process. Raises ClientError."""
        waits = iter(POLL_SECONDS)
        deadline = time.monotonic() + JOB_SECONDS
        while time.monotonic() < deadline:
            status = await _asked(link, f"{self.base_url}/status/{job_id}")
            state, output = _state(status), status.get("output")
            if state not in _RUNNING:
                _require_completed(state, status)
                order = PartOrder()
                for item in output if isinstance(output, list) else [output or {}]:
                    if order.is_new(checked(item)):
                        yield item
                return
            yield {"progress": output if isinstance(output, dict) else {}, "state": state}
            await asyncio.sleep(next(waits, POLL_SECONDS[-1]))
        raise ClientError("The job did not end within a day.")


class StreamTransport(QueueTransport):
    """POST /run with `stream`, then GET /stream, which hands out each item once."""

    def body(self, job: Mapping[str, Any]) -> Json:
        return {**job, "input": {**job["input"], "stream": True}}

    async def follow(self, link: Link, job_id: str) -> AsyncGenerator[Json, None]:
        order = PartOrder()
        deadline = time.monotonic() + JOB_SECONDS
        while time.monotonic() < deadline:
            answer = await _asked(link, f"{self.base_url}/stream/{job_id}")
            state, parts = _state(answer), answer.get("stream") or []
            if not isinstance(parts, list):
                raise ClientError("The endpoint returned a stream that is none.")
            for part in parts:
                item = checked(part.get("output") if isinstance(part, dict) else None)
                if order.is_new(item):
                    yield {**item, "state": "IN_PROGRESS"}
            if state not in _RUNNING:
                _require_completed(state, answer)
                return
            if not parts:
                yield {"progress": {}, "state": state}
                await asyncio.sleep(POLL_SECONDS[0])
        raise ClientError("The job did not end within a day.")


class HttpTransport:
    """POST /generate of the HTTP server, read line by line while it generates. Closing the generator frees the slot."""

    def __init__(self, base_url: str, key: str | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key
        self.held: str | None = None

    async def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        """A server that is loading or busy is asked again, when it says."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with Link(self.key) as link:
            while True:
                async for item in self._attempt(link, job):
                    if not isinstance(item, Answer):
                        yield item
                        continue
                    if item.status != _COME_BACK or time.monotonic() >= deadline:
                        raise item.failure
                    yield {"progress": {}, "state": "IN_QUEUE"}
                    await asyncio.sleep(POLL_SECONDS[-1] if item.retry_after is None else item.retry_after)
                    break
                else:
                    return

    async def send_once(self, link: Link, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        """One attempt. Raises ClientError, a PassingError where the server has no room."""
        async for item in self._attempt(link, job):
            if isinstance(item, Answer):
                raise item.failure
            yield item

    async def _attempt(self, link: Link, job: Mapping[str, Any]) -> AsyncGenerator[Json | Answer, None]:
        """The items of one attempt, or the answer that refuses it."""
        order = PartOrder()
        body = {**job, "input": {**job["input"], "stream": True}}
        async for line in link.lines(f"{self.base_url}/generate", body):
            if isinstance(line, Answer):
                yield line
                return
            item = checked(parsed(line))
            if order.is_new(item):
                yield item
            if order.finished:
                return
        raise PassingError("The stream ended before its last item.")


def job_id_of(answer: Answer) -> str:
    """The id in the answer to /run. Raises ClientError."""
    job_id = good(answer).json().get("id")
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise ClientError("The endpoint did not accept the job.")
    return job_id


def good(answer: Answer) -> Answer:
    """Raises ClientError for an answer that is an error."""
    if not answer.ok:
        raise answer.failure
    return answer


async def _asked(link: Link, url: str) -> Json:
    """What the platform says of a job that was submitted. Raises ClientError."""
    try:
        answer = await link.get(url)
        if answer.ok:
            return answer.json()
    except ClientError as error:  # of the way there, not of the job
        raise PollError(str(error), sent=not isinstance(error, PassingError) or error.sent) from None
    if answer.status == _NOT_FOUND:
        raise JobGoneError(answer.sentence)
    refusal = answer.failure
    raise PollError(str(refusal), retry_after=refusal.retry_after) if isinstance(refusal, PassingError) else refusal


def _state(answer: Mapping[str, Any]) -> str:
    return printable(answer.get("status")) or "something without a name"


def _require_completed(state: str, status: Mapping[str, Any]) -> None:
    """Raises ClientError for a job that has ended otherwise.

    The worker's own errors come with a code. Without one it is the platform that says so: it lost the worker, or the
    job took too long. One more attempt finds out.
    """
    if state == "COMPLETED":
        return
    sentence = printable(status.get("error")) or f"The job ended as {state}."
    output = status.get("output")
    code = output.get("code") if isinstance(output, dict) else None
    if state == "CANCELLED":
        raise ClientError(sentence)
    raise PassingError(sentence, once=True) if code is None else failure(sentence, code)
