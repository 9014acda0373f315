"""OpenAI's speech route, for its own clients."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from higgs_core.errors import HiggsError
from serverless.delivery.response import AudioPart, SpeechResponse
from serverless.delivery.serialise import describe
from serverless.http.disconnect import LiveResponse
from serverless.http.errors import HttpProblem, openai_envelope
from serverless.http.guard import require_key
from serverless.http.jobs import StartedJob, require_room, start_job
from serverless.http.models import require_model
from serverless.payload.openai import SPEECH_ROUTE, to_job_input

router = APIRouter(prefix="/v1", dependencies=[Depends(require_key)])

MAX_WARNINGS = 8  # a header has to stay small
STREAM_FORMATS = ("audio", "sse")
_TOLD_AT_THE_END = ("seed", "finish_reason", "duration_seconds", "timings", "warnings")


@router.post("/audio/speech")
async def speech(request: Request) -> Response:
    """Speak `input`; answers the bytes, or with stream_format "sse" OpenAI's events, as they are generated."""
    require_room(request)
    body = await request.app.state.bodies.read(request)
    stream_format = body.pop("stream_format", None) or "audio"
    if stream_format not in STREAM_FORMATS:
        raise HttpProblem(
            "invalid_request", "stream_format is not known; allowed is audio or sse.", field="stream_format"
        )
    require_model(body.get("model"), request.app.state.service.model_name)
    job = await start_job(request, to_job_input(SPEECH_ROUTE, body) | {"stream": True})
    if stream_format == "sse":
        return LiveResponse(_events(job), holds=job.rest, media_type="text/event-stream", headers=_headers(job))
    media_type = job.accepted.audio_format.mime_type
    return LiveResponse(_audio(job), holds=job.rest, media_type=media_type, headers=_headers(job))


def _headers(job: StartedJob) -> dict[str, str]:
    """Fields that had no effect, and what is wrong with clips and voices, as a JSON list: bare audio has no other place
    to say it."""
    about_clips = job.first.warnings if isinstance(job.first, AudioPart) else ()
    warnings = [*job.accepted.warnings, *about_clips][:MAX_WARNINGS]
    return {"X-Warnings": json.dumps(warnings)} if warnings else {}


async def _audio(job: StartedJob) -> AsyncGenerator[bytes]:
    """A failure in mid-stream breaks the connection off, so that no client takes half a file for a whole one."""
    yield _data(job.first)
    async for event in job.rest:
        yield _data(event)


def _data(event: AudioPart | SpeechResponse) -> bytes:
    return event.data if isinstance(event, AudioPart) else b""


async def _events(job: StartedJob) -> AsyncGenerator[bytes]:
    """OpenAI's events: a delta for each part, and at the end what speech in bytes cannot say."""
    yield _event_of(job.first)
    try:
        async for event in job.rest:
            yield _event_of(event)
    except HiggsError as error:
        yield _event({"type": "error", **openai_envelope(error)})


def _event_of(event: AudioPart | SpeechResponse) -> bytes:
    if isinstance(event, AudioPart):
        text = {} if event.text is None else {"text": event.text}
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(event.data).decode("ascii"), **text})
    description = describe(event)
    rest = {name: description[name] for name in _TOLD_AT_THE_END}
    return _event({"type": "speech.audio.done", "usage": openai_usage(event), **rest})


def openai_usage(response: SpeechResponse) -> dict[str, int]:
    """The tokens of a job by OpenAI's names."""
    usage = response.speech.usage
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"
