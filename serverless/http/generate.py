"""POST /generate: the queue's job in, the queue's result out; with `"stream": true` a line of JSON per item."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from higgs_core.errors import HiggsError
from serverless.delivery.serialise import Json, error_json, event_json
from serverless.http.disconnect import LiveResponse
from serverless.http.errors import HttpProblem
from serverless.http.guard import require_key
from serverless.http.jobs import StartedJob, require_room, start_job

router = APIRouter(dependencies=[Depends(require_key)])


@router.post("/generate")
async def generate(request: Request) -> Response:
    """Answer `{"input": {...}, "s3Config"?: {...}}` as the queue's worker answers the same job."""
    require_room(request)
    body = await request.app.state.bodies.read(request)
    if not isinstance(body.get("input"), dict):
        raise HttpProblem(
            "invalid_request",
            "'input' is missing or not an object.",
            field="input",
            hint='Send {"input": {"script": "Hello."}}.',
        )
    job = await start_job(request, body["input"], body.get("s3Config"))
    if job.accepted.streams:
        return LiveResponse(_lines(job), holds=job.rest, media_type="application/x-ndjson")
    await job.rest.aclose()
    return JSONResponse(event_json(job.first))


async def _lines(job: StartedJob) -> AsyncGenerator[bytes]:
    yield _line(event_json(job.first))
    try:
        async for event in job.rest:
            yield _line(event_json(event))
    except HiggsError as error:  # too late for a status: the last line says it
        yield _line(error_json(error))


def _line(item: Json) -> bytes:
    return json.dumps(item, ensure_ascii=False, allow_nan=False).encode() + b"\n"
