"""The handlers that RunPod's SDK calls, one per kind of endpoint.

A job is {"id", "input": {...} as docs/payload.md lists it, "s3Config"?}. The plain handler answers with one dict. The
streaming handler (HIGGS_AUDIO_STREAMING=1) is an async generator: the SDK decides by the function's kind, once, so it
cannot be both. In it a request with `stream: true` yields audio as it is generated, and any other exactly one item.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from higgs_core.errors import HiggsError
from serverless.delivery.response import Accepted, SpeechResponse
from serverless.delivery.serialise import Json, error_json, event_json, response_json
from serverless.queue.drain import Drain
from serverless.queue.scaler import ScalerHooks
from serverless.queue.stream_items import Aggregate
from serverless.service.service import SpeechService

if TYPE_CHECKING:
    from higgs_core.speech.progress import Progress

Job = dict[str, Any]


class Reporter(Protocol):
    """Hears of one job's progress; `settle` is awaited before its result leaves."""

    def __call__(self, progress: Progress) -> None: ...
    async def settle(self) -> None: ...


class QueueWorker:
    """The worker's side of the SDK. reporter: makes the receiver of a job's progress."""

    def __init__(self, service: SpeechService, *, reporter: Callable[[Job], Reporter]) -> None:
        self._service = service
        self._reporter = reporter
        self._drain = Drain()
        self._hooks = ScalerHooks(self._drain, hold_seconds=service.settings.max_result_hold)
        self.config: dict[str, Any] = {
            "handler": self.stream if service.settings.streaming else self.run,
            "concurrency_modifier": self.concurrency,
            "return_aggregate_stream": True,
        }

    async def run(self, job: Job) -> Json:
        """The response or the error. The error of a dead engine also asks the platform for a new worker."""
        reporter = self._reporter(job)
        try:
            answer = response_json(
                await self._service.run(
                    job.get("input"), job_id=str(job["id"]), s3_config=job.get("s3Config"), on_progress=reporter
                )
            )
        except HiggsError as error:
            answer = self._error(error)
        await reporter.settle()
        if answer.get("refresh_worker"):
            self._drain.begin()
        return answer

    async def stream(self, job: Job) -> AsyncGenerator[Json, None]:
        """An item for each part of the audio and one for the response, each and all together small enough for the
        platform; one item alone for a job without `stream: true`, and for an error."""
        max_result_bytes = self._service.settings.max_inline_bytes
        reporter = self._reporter(job)
        aggregate = Aggregate(max_result_bytes)
        source = self._service.stream(
            job.get("input"),
            job_id=str(job["id"]),
            s3_config=job.get("s3Config"),
            on_progress=reporter,
            upload_above=max_result_bytes * 7 // 10,  # base64 and the items' other keys make it more
        )
        _close_with_task(source)
        try:
            async with aclosing(source) as events:
                async for event in events:
                    if isinstance(event, Accepted):
                        continue
                    if isinstance(event, SpeechResponse):
                        await reporter.settle()
                    yield aggregate.outgoing(event_json(event))
                    aggregate.taken()
        except HiggsError as error:
            await reporter.settle()
            if self._service.must_recycle:
                self.config["refresh_worker"] = True  # of a generator's items the SDK reads no such key
            yield aggregate.outgoing(self._error(error))
            aggregate.taken()

    def _error(self, error: HiggsError) -> Json:
        return error_json(error) | ({"refresh_worker": True} if self._service.must_recycle else {})

    def concurrency(self, current: int) -> int:
        """As many jobs at once as the engine has slots; none any more once it has failed."""
        if self._service.must_recycle:
            self._drain.begin()
        self._hooks.between_polls()
        return self._service.max_concurrency


def _close_with_task(source: AsyncGenerator[Any, None]) -> None:
    """Close `source` when the running task ends. A job that is cancelled while the SDK posts an item leaves its
    generator suspended, and the garbage collector may take its time."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    closing: list[asyncio.Task[None]] = []  # the loop itself holds tasks weakly

    def close(_: object) -> None:
        if not loop.is_closed():
            closing.append(loop.create_task(source.aclose()))

    task.add_done_callback(close)
