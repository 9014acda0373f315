"""A request's JSON, bounded while it arrives: neither its stated length nor its sender is trusted."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from fastapi import Request

from serverless.http.errors import HttpProblem

READ_SECONDS = 120.0


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The body as a dict.

    Raises HttpProblem when it is not application/json, over `limit` bytes, slower than READ_SECONDS or not an object.
    The type is required for safety, not for form: a page of another origin cannot send it without asking first.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpProblem(
            "unsupported_media_type",
            "The body's type is not JSON.",
            hint="Send Content-Type: application/json.",
        )
    try:
        async with asyncio.timeout(READ_SECONDS):
            raw = await _read(request, limit)
    except TimeoutError:
        raise HttpProblem("request_timeout", f"The body took over {READ_SECONDS:.0f} seconds to arrive.") from None
    return _parse(raw)


async def _read(request: Request, limit: int) -> bytearray:
    raw = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            raw += part
        else:
            raw.clear()
        if size > 2 * limit:
            break  # a little over the limit is read to its end, for only then most clients look at the answer
    if size > limit:
        raise HttpProblem(
            "request_too_large", f"The body is over the limit of {limit} bytes.", hint="Send long clips by URL."
        )
    return raw


def _parse(raw: bytearray) -> dict[str, Any]:
    try:
        # str first: json.loads of bytes would also take UTF-16 and UTF-32
        body = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, numbers too long to read, nesting too deep
        raise HttpProblem("invalid_request", "The body is not valid JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise HttpProblem("invalid_request", "The body is not a JSON object.")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
