"""HTTP requests to servers whose addresses were checked, and what the servers may do then.

The address that was checked is the one that is dialled. No redirect is followed, no proxy, cookie or .netrc is used,
nothing is decompressed, and all servers that a client asks share one limit of bytes besides the bodies.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self

import aiohttp
from aiohttp.helpers import set_result
from aiohttp.http_exceptions import HttpProcessingError

from serverless.network.bounded_connector import BoundedConnector
from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.network.fetch_target import FetchTarget
from serverless.network.name_lookups import NameLookups

_CHUNK_BYTES = 2**16
_LONGEST_HEADER_LINE = 2**16
_CONTINUE_SECONDS = 1.0  # how long a server may take to ask for a body; some never do
_TOO_MUCH = "it sent more bytes than are allowed"
_LOOKUPS = NameLookups(at_once=64)  # of this process: its threads are what is bounded
_HEADERS = {"User-Agent": "higgs-audio-serverless", "Accept": "*/*", "Accept-Encoding": "identity"}


class PinnedClient:
    """Sends one request at a time. An async context manager: leaving it closes the connection.

    connect_seconds: for all addresses of a server together. silence_seconds: how long a server may say nothing once it
    has the request; None leaves that to the caller's deadline. tls: what certificates are checked against, by default
    the system's store.
    """

    def __init__(
        self,
        guard: FetchGuard,
        *,
        connect_seconds: float,
        silence_seconds: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._tls = tls
        self._connector = BoundedConnector()
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            request_class=_PatientRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,  # no proxies, no .netrc
            max_line_size=_LONGEST_HEADER_LINE,
            max_field_size=_LONGEST_HEADER_LINE,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            self._connector.reset()
        await self._session.close()

    @property
    def exhausted(self) -> bool:
        """Whether servers have sent all that they may; no later request succeeds."""
        return self._connector.exceeded

    async def request(
        self, method: str, target: FetchTarget, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """The answer, up to the end of its headers; use it as a context manager. Addresses are tried in turn.

        A body is sent once the server asks for it or has said nothing for a second, so that one who answers by a look
        at the headers is understood. Raises FetchRefused.
        """
        addresses = await checked_addresses(self._guard, target)
        expect = {} if body is None else {"Expect": "100-continue"}
        for address in addresses:
            try:
                return await self._session.request(
                    method,
                    target.at(address),
                    headers={**(headers or {}), **expect, "Host": target.host_header},
                    data=None if body is None else io.BytesIO(body),  # which aiohttp sends in small pieces
                    ssl=True if self._tls is None else self._tls,
                    server_hostname=target.host,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        sock_connect=self._connect_seconds / len(addresses),
                        sock_read=self._silence_seconds,
                    ),
                )
            except aiohttp.ClientSSLError:
                raise FetchRefused("TLS failed, or the certificate is not valid") from None
            except aiohttp.SocketTimeoutError:
                raise FetchRefused("it did not answer") from None
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ConnectionTimeoutError):
                if self._connector.exceeded:
                    raise FetchRefused(_TOO_MUCH) from None
                continue
            except (aiohttp.ClientError, HttpProcessingError, ValueError):  # ValueError: of aiohttp's parser
                raise self._broken("the answer is not HTTP") from None
        raise FetchRefused("no connection could be made")

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer as it comes in. Raises FetchRefused."""
        try:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                self._connector.bytes_left += len(chunk)
                yield chunk
        except (aiohttp.ClientResponseError, HttpProcessingError, ValueError):
            raise self._broken("the answer is not HTTP") from None
        except (aiohttp.ClientError, OSError):
            raise self._broken("the transfer broke off") from None
        if self._connector.exceeded:  # without a stated length the end of the connection looks like the body's
            raise FetchRefused(_TOO_MUCH)

    def _broken(self, reason: str) -> FetchRefused:
        return FetchRefused(_TOO_MUCH if self._connector.exceeded else reason)


class _PatientRequest(aiohttp.ClientRequest):
    """Waits for `100 Continue` as the others do, but not for ever."""

    def update_expect_continue(self, expect: bool = False) -> None:
        super().update_expect_continue(expect)
        if (asked := self._continue) is not None:
            self.loop.call_later(_CONTINUE_SECONDS, set_result, asked, True)


async def checked_addresses(guard: FetchGuard, target: FetchTarget) -> Sequence[str]:
    """The addresses to dial. Raises FetchRefused."""
    return await _LOOKUPS.addresses(
        (guard, target.host, target.port), lambda: guard.addresses(target.host, target.port)
    )
