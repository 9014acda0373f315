"""Fetching a URL that a job names: only from where the guard allows, within one timeout and one size."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from serverless.network.bounded_connector import BoundedConnector
from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.network.fetch_target import FetchTarget, read_target

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 2**16
_LONGEST_HEADER_LINE = 2**16
_TOO_MUCH = "it sent more bytes than are allowed"
_HEADERS = {"User-Agent": "higgs-audio-serverless", "Accept": "*/*", "Accept-Encoding": "identity"}


async def fetch(url: str, guard: FetchGuard, *, timeout_seconds: float, max_bytes: int, max_redirects: int) -> bytes:
    """The body of one URL, at most `max_bytes`. Cancelling it closes the connection.

    Raises FetchRefused: the address, the answer or the time that it takes is not acceptable.
    """
    connector = BoundedConnector()
    try:
        async with asyncio.timeout(timeout_seconds), _session(connector) as session:
            download = _Download(guard, session, connector, timeout_seconds, max_bytes)
            target = read_target(url)
            for _ in range(max_redirects + 1):
                location, body = await download.get(target)
                if location is None:
                    return body
                target = read_target(location, base=target.url)
    except TimeoutError:
        raise FetchRefused("it took longer than the download timeout") from None
    raise FetchRefused(f"it redirects more than {max_redirects} times")


def _session(connector: BoundedConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        auto_decompress=False,
        trust_env=False,  # no proxies, no .netrc
        max_line_size=_LONGEST_HEADER_LINE,
        max_field_size=_LONGEST_HEADER_LINE,
    )


@dataclass(frozen=True)
class _Download:
    guard: FetchGuard
    session: aiohttp.ClientSession
    connector: BoundedConnector
    timeout_seconds: float
    max_bytes: int

    async def get(self, target: FetchTarget) -> tuple[str | None, bytes]:
        """(where it redirects to, or None; the body). Addresses are tried in turn until one answers."""
        addresses = await _addresses(self.guard, target)
        for address in addresses:
            request = self.session.get(
                target.at(address),
                headers={"Host": target.host_header},
                server_hostname=target.host,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.timeout_seconds / len(addresses)),
            )
            try:
                response = await request
            except aiohttp.ClientSSLError:
                raise FetchRefused("TLS failed, or the certificate is not valid") from None
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ConnectionTimeoutError):
                if self.connector.exceeded:
                    raise FetchRefused(_TOO_MUCH) from None
                continue
            except (aiohttp.ClientError, HttpProcessingError):
                raise self._broken("the answer is not HTTP") from None
            try:
                async with response:
                    return await self._answer(response)
            except (aiohttp.ClientResponseError, HttpProcessingError):
                raise self._broken("the answer is not HTTP") from None
            except (aiohttp.ClientError, OSError):
                raise self._broken("the transfer broke off") from None
        raise FetchRefused("no connection could be made")

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
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            self.connector.bytes_left += len(chunk)
            body += chunk
            if len(body) > self.max_bytes:
                raise too_large
        if self.connector.exceeded:  # without a stated length the end of the connection looks like the body's
            raise FetchRefused(_TOO_MUCH)
        return None, bytes(body)

    def _broken(self, reason: str) -> FetchRefused:
        return FetchRefused(_TOO_MUCH if self.connector.exceeded else reason)


async def _addresses(guard: FetchGuard, target: FetchTarget) -> Sequence[str]:
    """The addresses to dial, looked up in a thread that nobody waits for: a name resolution cannot be interrupted."""
    outcome: Future[list[str]] = Future()

    def look_up() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(guard.addresses(target.host, target.port))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=look_up, name="reference-host", daemon=True).start()
    return await asyncio.wrap_future(outcome)
