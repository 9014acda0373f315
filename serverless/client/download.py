"""The audio behind a presigned link, which wants no key.

A server names the link, so it is fetched as the worker fetches a job's clips: http and https only, every redirect
checked again, and from the public internet. A server on this machine or in a private network may name its like.
"""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from serverless.client.errors import ClientError

MAX_FILE_BYTES = 256_000_000
DOWNLOAD_SECONDS = 600.0
MAX_REDIRECTS = 3


async def download(url: str, *, endpoint: str) -> bytes:
    """The body. endpoint: the address that named the link. Raises ClientError."""
    from serverless.network.fetch_guard import PRIVATE_TOO, FetchGuard, FetchRefused
    from serverless.references.url_fetch import fetch

    private = await asyncio.to_thread(_is_private, endpoint)
    guard = PRIVATE_TOO if private else FetchGuard(ports=None)
    try:
        return await fetch(
            url, guard, timeout_seconds=DOWNLOAD_SECONDS, max_bytes=MAX_FILE_BYTES, max_redirects=MAX_REDIRECTS
        )
    except FetchRefused as refused:
        raise ClientError(f"The result cannot be downloaded: {refused}.") from None


def _is_private(endpoint: str) -> bool:
    """Whether every address of an endpoint is on this machine or in a private network. Blocking."""
    from serverless.network.fetch_guard import PRIVATE_NETWORKS, system_resolver

    try:
        parts = urlsplit(endpoint)
        addresses = [ipaddress.ip_address(found) for found in system_resolver(parts.hostname or "", parts.port or 80)]
    except (OSError, ValueError):
        return False
    return all(any(address in network for network in PRIVATE_NETWORKS) for address in addresses)
