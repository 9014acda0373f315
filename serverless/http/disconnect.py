"""A client that goes away ends its work: waiting, generating or streaming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from higgs_core.errors import GenerationCancelled

Result = TypeVar("Result")


async def until_disconnect(request: Request, work: Coroutine[object, object, Result]) -> Result:
    """The result of `work`, cancelled as soon as the client is gone. The request's body must have been read.

    Raises GenerationCancelled when the client is gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GenerationCancelled("The client went away.")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class LiveResponse(StreamingResponse):
    """A streamed body. `holds`, what the body reads from, is closed in every case and so freed at once."""

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        *,
        holds: AsyncGenerator[Any],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(body, media_type=media_type, headers={"X-Accel-Buffering": "no", **(headers or {})})
        self._generators = (body, holds)  # in the order of closing; a body that never began closes nothing by itself

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                for generator in self._generators:
                    await generator.aclose()
