"""POST /generate: the queue's job in, the queue's result out; with `"stream": true` a line of JSON per item."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from serverless.http.body import read_json
from serverless.http.disconnect import LiveResponse, until_disconnect
from serverless.http.errors import HttpProblem, JobFailed, error_response
from serverless.http.guard import require_key
from serverless.http.speech_stream import Item, Items, observed, open_stream, require_ready

router = APIRouter(dependencies=[Depends(require_key)])


@router.post("/generate")
async def generate(request: Request) -> Response:
    """Answer `{"input": {...}, "s3Config"?: {...}}` as the queue's worker answers the same job."""
    require_ready(request)
    job = await read_json(request, request.app.state.settings.max_request_bytes)
    if not isinstance(job.get("input"), dict):
        raise HttpProblem(
            "invalid_request",
            "'input' is missing or not an object.",
            field="input",
            hint='Send {"input": {"script": "Hello."}}.',
        )
    if job["input"].get("stream") in (True, "true", 1, "1"):
        first, rest = await open_stream(request, job["input"], job.get("s3Config"))
        return LiveResponse(_lines(first, rest), holds=rest, media_type="application/x-ndjson")
    with observed(request) as record:
        service = request.app.state.service
        work = service.run(job["input"], job_id=request.state.request_id, s3_config=job.get("s3Config"))
        result: Item = await until_disconnect(request, work)
        record(result)
    return error_response(request, result) if "error" in result else JSONResponse(result)


async def _lines(first: Item, rest: Items) -> AsyncGenerator[bytes]:
    yield _line(first)
    try:
        async for item in rest:
            yield _line(item)
    except JobFailed as failure:  # too late for a status: the last line says it
        yield _line(failure.body)


def _line(item: Item) -> bytes:
    return json.dumps(item, ensure_ascii=False, allow_nan=False).encode() + b"\n"
