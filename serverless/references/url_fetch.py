"""Fetching a URL that a job names: only from where the guard allows, within one timeout and one size."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.network.fetch_target import FetchTarget, read_target
from serverless.network.pinned_client import PinnedClient
from serverless.references.memory_budget import Share

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def fetch(
    url: str,
    guard: FetchGuard,
    *,
    timeout_seconds: float,
    max_bytes: int,
    max_redirects: int,
    memory: Share | None = None,
) -> bytes:
    """The body of one URL, at most `max_bytes`. Cancelling it closes the connection.

    memory: what the body is taken from as it comes in; the caller gives it back, unless the fetch fails.
    Raises FetchRefused: the address, the answer or the time that it takes is not acceptable.
    """
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            PinnedClient(guard, connect_seconds=timeout_seconds) as client,
        ):
            download = _Download(client, max_bytes, memory)
            target = read_target(url)
            for _ in range(max_redirects + 1):
                location, body = await download.get(target)
                if location is None:
                    return body
                target = read_target(location, base=target.url)
    except TimeoutError:
        raise FetchRefused("it took longer than the download timeout") from None
    raise FetchRefused(f"it redirects more than {max_redirects} times")


@dataclass(frozen=True)
class _Download:
    client: PinnedClient
    max_bytes: int
    memory: Share | None

    async def get(self, target: FetchTarget) -> tuple[str | None, bytes]:
        """(where it redirects to, or None; the body)."""
        async with await self.client.request("GET", target) as response:
            return await self._answer(response)

    async def _answer(self, response: aiohttp.ClientResponse) -> tuple[str | None, bytes]:
        if response.status in _REDIRECTS:
            location = response.headers.get("Location")
            if not location:
                raise FetchRefused("it redirects without a location")
            return location, b""
        if response.status != 200:
            raise FetchRefused(f"the server answered {response.status}")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise FetchRefused("the answer is compressed although it was asked not to be")
        too_large = FetchRefused(f"it has more than {self.max_bytes} bytes")
        if (response.content_length or 0) > self.max_bytes:
            raise too_large
        body = bytearray()
        try:
            async for chunk in self.client.chunks(response):
                if len(body) + len(chunk) > self.max_bytes:
                    raise too_large
                if self.memory is not None:
                    await self.memory.take(len(chunk))
                body += chunk
        except BaseException:
            if self.memory is not None:
                self.memory.give_back(len(body))
            raise
        return None, bytes(body)
