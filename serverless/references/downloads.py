"""The URLs of one request, fetched a few at a time and within one deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard
from serverless.references.memory_budget import Share
from serverless.references.url_fetch import fetch

AT_ONCE = 4
"""URLs of one request whose bodies come in or are held at the same time."""


class Downloads:
    """Fetches in an `async with` block; leaving it cancels what still runs, and waits for nothing else.

    urls: each once, in the order in which their bodies are used.  memory: what the bodies are taken from.
    timeout_seconds: how long all of them together may take.
    """

    def __init__(
        self, urls: Sequence[str], settings: Settings, guard: FetchGuard, memory: Share, timeout_seconds: float
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._memory = memory
        self._deadline = asyncio.get_running_loop().time() + timeout_seconds
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks = {url: asyncio.create_task(self._fetch(url)) for url in urls}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def body(self, url: str) -> bytes:
        """The body of one of the URLs, once. Raises FetchRefused."""
        return await self._tasks[url]

    def used(self, url: str) -> None:
        """Forget a body that is not needed any more; the next URL takes its place."""
        body = self._tasks.pop(url).result()
        self._memory.give_back(len(body))
        self._places.release()

    async def _fetch(self, url: str) -> bytes:
        await self._places.acquire()  # given back by `used`: what was fetched counts until it is decoded
        return await fetch(
            url,
            self._guard,
            timeout_seconds=self._deadline - asyncio.get_running_loop().time(),
            max_bytes=self._settings.max_reference_bytes,
            max_redirects=self._settings.max_redirects,
            memory=self._memory,
        )
