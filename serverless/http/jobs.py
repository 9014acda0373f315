"""What /generate and /v1/audio/speech share: readiness, and streams that fail before they start to answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

from fastapi import Request

from serverless.delivery.response import Accepted, AudioPart, SpeechResponse
from serverless.http.disconnect import until_disconnect
from serverless.http.errors import HttpProblem
from serverless.http.health import why_unhealthy


@dataclass(frozen=True, eq=False)
class StartedJob:
    """A job whose first event is there. rest: the events after it, to be closed in every case."""

    accepted: Accepted
    first: AudioPart | SpeechResponse
    rest: AsyncGenerator[AudioPart | SpeechResponse, None]


def require_ready(request: Request) -> None:
    """Refuse a job, before its body is read, while the model loads or after it failed to.

    Raises HttpProblem (loading, model_not_loaded, engine_stopped).
    """
    service = request.app.state.service
    end_if_dead(request.app)
    if (error := why_unhealthy(service)) is not None:
        raise HttpProblem(error.code, error.message)
    if not service.ready:
        raise HttpProblem("loading", "The model is still loading.", hint="Try again when GET /ping answers 200.")


def require_room(request: Request) -> None:
    """Refuse a job, before its body is read, that would be refused afterwards. No place is kept for it meanwhile, or
    clients that are slow to send could take them all.

    Raises HttpProblem (busy, and as require_ready).
    """
    require_ready(request)
    service, state = request.app.state.service, request.app.state
    if service.full or service.in_flight >= state.max_jobs:
        raise HttpProblem("busy", "The worker has as many requests as it takes.", hint="Try again in a few seconds.")


async def start_job(request: Request, job_input: Any, s3_config: Any = None) -> StartedJob:
    """Run a job up to its first event: what fails before it is an ordinary error answer.

    Raises HiggsError; GenerationCancelled when the client is gone. So does iterating over the rest.
    """
    request.state.job_begun = True  # from here on the job itself counts and logs how it ends
    events = request.app.state.service.stream(job_input, job_id=request.state.request_id, s3_config=s3_config)
    try:
        accepted = cast(Accepted, await anext(events))  # always first, and once
        rest = cast("AsyncGenerator[AudioPart | SpeechResponse, None]", events)
        first = await until_disconnect(request, _next(rest))
    except BaseException:
        await events.aclose()
        raise
    return StartedJob(accepted, first, rest)


async def _next(events: AsyncGenerator[AudioPart | SpeechResponse, None]) -> AudioPart | SpeechResponse:
    return await anext(events)


def end_if_dead(app: Any) -> None:
    """Ask for the process's end once the engine has failed: only a new process helps."""
    if app.state.service.must_recycle:
        app.state.on_fatal()
