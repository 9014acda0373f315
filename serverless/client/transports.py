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

from serverless.client.errors import ClientError, printable
from serverless.client.items import PartOrder, checked
from serverless.client.link import Answer, Json, Link, parsed

POLL_SECONDS = (0.5, 1.0, 2.0)  # then the last one, again and again
PATIENCE_SECONDS = 300  # with a server that is loading or busy
JOB_SECONDS = 86_400  # for which the platform keeps a job
CANCEL_SECONDS = 5  # for telling the platform that nobody waits any more
_COME_BACK = 503
_RUNNING = {"IN_QUEUE", "IN_PROGRESS"}
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")


class Transport(Protocol):
    """base_url: without the last slash. key: the bearer key, if any."""

    base_url: str
    key: str | None

    def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]: ...


class QueueTransport:
    """POST /run, then GET /status until the job ends. Closing the generator early cancels the job."""

    def __init__(self, base_url: str, key: str | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key

    async def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        async with Link(self.key) as link:
            job_id = good(await link.post(f"{self.base_url}/run", dict(job))).json().get("id")
            if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
                raise ClientError("The endpoint did not accept the job.")
            ended = False
            try:
                async for item in self._follow(link, job_id):
                    ended = item.get("state") not in _RUNNING
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

    async def _follow(self, link: Link, job_id: str) -> AsyncGenerator[Json, None]:
        waits = iter(POLL_SECONDS)
        deadline = time.monotonic() + JOB_SECONDS
        while time.monotonic() < deadline:
            status = good(await link.get(f"{self.base_url}/status/{job_id}")).json()
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

    async def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        async for item in super().send({**job, "input": {**job["input"], "stream": True}}):
            yield item

    async def _follow(self, link: Link, job_id: str) -> AsyncGenerator[Json, None]:
        order = PartOrder()
        deadline = time.monotonic() + JOB_SECONDS
        while time.monotonic() < deadline:
            answer = good(await link.get(f"{self.base_url}/stream/{job_id}")).json()
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
    """POST /generate of the HTTP server, read line by line while it generates. Closing the generator frees the slot.

    A server that is loading or busy is asked again, when it says.
    """

    def __init__(self, base_url: str, key: str | None) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key

    async def send(self, job: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
        body = {**job, "input": {**job["input"], "stream": True}}
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with Link(self.key) as link:
            while True:
                refusal: Answer | None = None
                order = PartOrder()
                async for line in link.lines(f"{self.base_url}/generate", body):
                    if isinstance(line, Answer):
                        refusal = line
                        break
                    item = checked(parsed(line))
                    if order.is_new(item):
                        yield item
                    if order.finished:
                        return
                if refusal is None:
                    raise ClientError("The stream ended before its last item.")
                if refusal.status != _COME_BACK or time.monotonic() >= deadline:
                    raise ClientError(refusal.sentence)
                yield {"progress": {}, "state": "IN_QUEUE"}
                await asyncio.sleep(POLL_SECONDS[-1] if refusal.retry_after is None else refusal.retry_after)


def good(answer: Answer) -> Answer:
    """Raises ClientError for an answer that is an error."""
    if not answer.ok:
        raise ClientError(answer.sentence)
    return answer


def _state(answer: Mapping[str, Any]) -> str:
    return printable(answer.get("status")) or "something without a name"


def _require_completed(state: str, status: Mapping[str, Any]) -> None:
    if state != "COMPLETED":
        raise ClientError(printable(status.get("error")) or f"The job ended as {state}.")
