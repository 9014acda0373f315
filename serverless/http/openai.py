"""OpenAI's routes: speech, models and voices, for its own clients."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from higgs_core.repositories import names_of
from serverless.http.body import read_json
from serverless.http.disconnect import LiveResponse
from serverless.http.errors import HttpProblem, JobFailed, openai_envelope
from serverless.http.guard import require_key
from serverless.http.speech_stream import Item, Items, open_stream, require_ready
from serverless.payload.openai import to_job_input
from serverless.payload.parse import parse_job
from serverless.service.response import public_name

router = APIRouter(prefix="/v1", dependencies=[Depends(require_key)])

SPEECH_ROUTE: Final = "/v1/audio/speech"
MAX_WARNINGS = 8  # a header has to stay small
STREAM_FORMATS = ("audio", "sse")
_TOLD_AT_THE_END = ("seed", "finish_reason", "duration_seconds", "timings", "warnings")
# names that clients send because their library insists on one; there is one model here
MODEL_ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "higgs-audio-v2")


@router.post("/audio/speech")
async def speech(request: Request) -> Response:
    """Speak `input`; answers the bytes, or with stream_format "sse" OpenAI's events, as they are generated."""
    require_ready(request)
    body = await read_json(request, request.app.state.settings.max_request_bytes)
    stream_format = body.pop("stream_format", None) or "audio"
    if stream_format not in STREAM_FORMATS:
        raise HttpProblem(
            "invalid_request", "stream_format is not known; allowed is audio or sse.", field="stream_format"
        )
    _require_model(body.get("model"), request.app.state.settings.model_id)
    job_input = to_job_input(SPEECH_ROUTE, body) | {"stream": True}
    headers = _warning_header(request, job_input)
    first, rest = await open_stream(request, job_input)
    if stream_format == "sse":
        return LiveResponse(_events(first, rest), holds=rest, media_type="text/event-stream", headers=headers)
    return LiveResponse(_audio(first, rest), holds=rest, media_type=first["mime_type"], headers=headers)


def _warning_header(request: Request, job_input: Item) -> dict[str, str]:
    """Fields that had no effect, as a JSON list: bare audio has no other place to say it.

    Raises RequestError for a wrong field, before anything is generated.
    """
    parsed = parse_job(job_input, request.app.state.settings, voices=request.app.state.service.voices)
    return {"X-Warnings": json.dumps(parsed.warnings[:MAX_WARNINGS])} if parsed.warnings else {}


async def _audio(first: Item, rest: Items) -> AsyncGenerator[bytes]:
    """A failure in mid-stream breaks the connection off, so that no client takes half a file for a whole one."""
    yield _decoded(first)
    async for item in rest:
        if item.get("audio_base64"):
            yield _decoded(item)


def _decoded(item: Item) -> bytes:
    return base64.b64decode(item.get("audio_base64") or "")


async def _events(first: Item, rest: Items) -> AsyncGenerator[bytes]:
    last = first
    yield _delta(first)
    try:
        async for item in rest:
            last = item
            if item.get("audio_base64"):
                yield _delta(item)
    except JobFailed as failure:
        yield _event({"type": "error", **openai_envelope(failure.body)})
        return
    usage = last.get("usage") or {}
    counts = {
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
    }
    about: Item = {name: last[name] for name in _TOLD_AT_THE_END if name in last}
    yield _event({"type": "speech.audio.done", "usage": counts, **about})


def _delta(item: Item) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": item.get("audio_base64") or ""})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model, with the defaults of its sampling and whether its weights are random."""
    return {"object": "list", "data": [_model(request)]}


@router.get("/models/{model:path}")
async def model(request: Request, model: str) -> dict[str, Any]:
    """The model by any name that speech accepts."""
    _require_model(model, request.app.state.settings.model_id)
    return _model(request)


@router.get("/audio/voices")
async def voices(request: Request) -> dict[str, Any]:
    """The voice library; "default" leaves the voice to the model."""
    require_ready(request)
    library = request.app.state.service.voices
    described = [{"id": name, "object": "voice", "transcript": voice.transcript} for name, voice in library.items()]
    return {"object": "list", "voices": ["default", *library], "data": described}


def _model(request: Request) -> dict[str, Any]:
    service, settings = request.app.state.service, request.app.state.settings
    return {
        "id": public_name(settings.model_id),
        "object": "model",
        "created": request.app.state.started,
        "owned_by": "organization_owner",
        "random_weights": service.random_weights,
        "defaults": {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "ras_win_len": settings.ras_win_len,
            "ras_win_max_num_repeat": settings.ras_win_max_repeat,
            "response_format": settings.response_format,
        },
    }


def _require_model(name: object, served: str) -> None:
    names = names_of(public_name(served))
    known = {*names, *(each.split("/")[-1] for each in names), *MODEL_ALIASES}
    if name is not None and name not in known:
        raise HttpProblem(
            "model_not_found", "The model of that name is not served here.", field="model", hint="See GET /v1/models."
        )
