"""Fetching a URL from a server of the tests."""

from __future__ import annotations

import asyncio

from serverless.network.fetch_guard import FetchGuard
from serverless.references.url_fetch import fetch
from tests.helpers.loopback import LOOPBACK, Connection
from tests.helpers.paths import CLIP

CLIP_BYTES = CLIP.read_bytes()
CAP = 100_000


def get(url: str, *, seconds: float = 10, max_bytes: int = CAP, guard: FetchGuard = LOOPBACK) -> bytes:
    """The body, of CAP bytes at most if nothing else is said. Raises FetchRefused."""
    return asyncio.run(fetch(url, guard, timeout_seconds=seconds, max_bytes=max_bytes, max_redirects=3))


def stay_silent(connection: Connection) -> None:
    """Say nothing until the client goes."""
    while connection.sock.recv(1):
        pass
    raise OSError
