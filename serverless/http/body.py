"""A request's body, bounded while it arrives: neither its stated length nor its sender is trusted."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serverless.http.errors import HttpProblem
from serverless.service.byte_budget import ByteBudget, Hold

if TYPE_CHECKING:
    from serverless.config.settings import Settings

T = TypeVar("T")

GRACE_SECONDS = 10.0
BYTES_PER_SECOND = 4096
"""The least that a sender has to reach on average, once the first GRACE_SECONDS are over."""

SMALL_BYTES = 2048

_TOKENS_AROUND_A_SCRIPT = 20_000
_TOKENS_OF_A_SECOND = 8 * 25  # of clips that come as codes
_TOKENS_OF_A_CHARACTER = 5  # in a dialogue each may be a turn of its own: {"speaker": "A", "text": "x"},


class HeldBodies:
    """ASGI middleware: gives each request the Hold in which its body counts, until it has its whole answer. What a
    request carries, clips above all, is kept that long."""

    def __init__(self, app: ASGIApp, budget: ByteBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hold = scope.setdefault("state", {})["body"] = self._budget.hold()
        try:
            await self._app(scope, receive, send)
        finally:
            hold.release()


class JsonBodies:
    """Reads bodies. They are parsed one after the other in a thread, for the event loop has others to serve."""

    def __init__(self, settings: Settings, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._limit = settings.max_request_bytes
        self._seconds = settings.max_body_seconds
        self._grace_seconds = grace_seconds
        self._max_tokens = (
            _TOKENS_AROUND_A_SCRIPT
            + _TOKENS_OF_A_CHARACTER * settings.max_script_characters
            + math.ceil(_TOKENS_OF_A_SECOND * settings.max_total_reference_seconds)
        )
        self.budget = ByteBudget(max(settings.max_bodies_bytes, settings.max_request_bytes))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="json")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, request: Request) -> dict[str, Any]:
        """The body as a dict.

        Raises HttpProblem when it is not application/json, too large, too slow, too much together with the bodies of
        others, or not an object; and when its sender has gone (cancelled).
        The type is required for safety, not for form: a page of another origin cannot send it without asking first.
        """
        if media_type(request) != "application/json":
            raise HttpProblem(
                "unsupported_media_type",
                "The body's type is not JSON.",
                hint="Send Content-Type: application/json.",
            )
        raw = await self.received(request)
        return await self.parsed(raw)

    async def received(self, request: Request, *, limit: int | None = None) -> bytearray:
        """The bytes of a body of any type. limit: fewer than those of every request.

        Raises HttpProblem when it is too large, too slow, too much together with the bodies of others, or its sender
        has gone (cancelled).
        """
        limit = self._limit if limit is None else min(limit, self._limit)
        stated = int(request.headers.get("content-length", "0"))  # the server has checked that it is a number
        self._check_size(stated, stated, limit)
        try:
            return await self._receive(request, request.state.body, limit)
        except TimeoutError:
            raise HttpProblem(
                "request_timeout",
                "The body took too long to arrive.",
                hint=f"At least {BYTES_PER_SECOND} bytes a second are expected, and the end within {self._seconds:g}.",
            ) from None
        except ClientDisconnect:
            raise HttpProblem("cancelled", "The client went away.") from None

    async def parsed(self, raw: bytearray) -> dict[str, Any]:
        """JSON that has arrived. Raises HttpProblem as `parse` does."""
        if len(raw) <= SMALL_BYTES:  # takes less time than a thread's turn
            return parse(raw, self._max_tokens)
        return await self.in_thread(parse, raw, self._max_tokens)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """What it returns or raises, computed in the thread that reads bodies, one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _receive(self, request: Request, hold: Hold, limit: int) -> bytearray:
        raw = bytearray()
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(min(self._grace_seconds, self._seconds)) as deadline:
            async for part in request.stream():
                self._check_size(len(raw) + len(part), len(part), limit)
                raw += part
                hold.resize(len(raw))
                allowed = min(self._grace_seconds + len(raw) / BYTES_PER_SECOND, self._seconds)
                deadline.reschedule(started + allowed)
        return raw

    def _check_size(self, size: int, more: int, limit: int) -> None:
        if size > limit:
            message = f"The body is over the limit of {limit} bytes."
            raise HttpProblem("request_too_large", message, hint="Send long clips by URL.")
        if not self.budget.fits(more):
            raise HttpProblem(
                "busy", "The bodies of other requests take all the room.", hint="Try again in a few seconds."
            )


def media_type(request: Request) -> str:
    """What the body is said to be, in lower case and without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def parse(raw: bytearray, max_tokens: int) -> dict[str, Any]:
    """JSON in UTF-8 as a dict.

    Raises HttpProblem for anything else, and for over `max_tokens` values, keys and escapes. They are counted before
    one is built, those inside of strings too: the parser keeps all other threads waiting for as long as it runs.
    """
    if sum(raw.count(mark) for mark in (b",", b":", b"[", b"{", b"\\")) > max_tokens:
        raise HttpProblem("invalid_request", "The body has more values, keys or escapes than any request needs.")
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
