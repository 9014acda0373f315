"""What /generate and /v1/audio/speech share: readiness, counting, and streams that fail before they start to answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from fastapi import Request

from serverless.http import health
from serverless.http.disconnect import until_disconnect
from serverless.http.errors import HttpProblem, JobFailed

Item = dict[str, Any]
Items = AsyncGenerator[Item]


def require_ready(request: Request) -> None:
    """Refuse a job, before its body is read, while the model loads or after it failed to.

    Raises HttpProblem (loading, model_not_loaded).
    """
    service = request.app.state.service
    _end_if_dead(request)
    if (reason := health.why_unhealthy(service)) is not None:
        raise HttpProblem("model_not_loaded", reason)
    if not service.ready:
        raise HttpProblem("loading", "The model is still loading.", hint="Try again when GET /ping answers 200.")


@contextmanager
def observed(request: Request) -> Iterator[Callable[[Item], None]]:
    """Measure one job, whichever way it ends; the yielded function takes its final dict.

    When it leaves a dead engine behind, the app asks for its own end: only a new process helps.
    """
    final: Item = {"code": "cancelled", "error": "The client went away."}

    def record(result: Item) -> None:
        nonlocal final
        final = result

    try:
        yield record
    finally:
        metrics = request.app.state.metrics
        if "error" in final:
            metrics.count_error(final.get("code") or "internal_error")
        else:
            metrics.observe(final)
        _end_if_dead(request)


def _end_if_dead(request: Request) -> None:
    if request.app.state.service.must_recycle:
        request.app.state.on_fatal()


async def open_stream(request: Request, job_input: Item, s3_config: Any = None) -> tuple[Item, Items]:
    """The first item of a job's stream, and the rest: what fails before the first is an ordinary error answer.

    Raises JobFailed for the service's error dict, GenerationCancelled when the client is gone. The rest raises
    JobFailed too; close it in every case.
    """
    items = _observed_items(request, job_input, s3_config)
    try:
        return await until_disconnect(request, _first(items)), items
    except BaseException:
        await items.aclose()
        raise


async def _first(items: Items) -> Item:
    return await anext(items)


async def _observed_items(request: Request, job_input: Item, s3_config: Any) -> Items:
    service = request.app.state.service
    stream = service.stream(job_input, job_id=request.state.request_id, s3_config=s3_config)
    with observed(request) as record:
        async with aclosing(stream) as items:
            async for item in items:
                if "error" in item:
                    record(item)
                    raise JobFailed(item)
                if item.get("is_final"):
                    record(item)
                yield item
