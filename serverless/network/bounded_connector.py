"""aiohttp connections on which servers can send only so much besides the body.

aiohttp limits header lines, but reads interim (1xx) responses and chunk extensions without an end.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

_OVERHEAD_BYTES = 2**20  # headers, interim responses, chunk lines, and body bytes that are buffered but not yet read


class BoundedConnector(aiohttp.TCPConnector):
    """One connection at a time, a new one for each request, closed once the servers together have sent too much.

    bytes_left: what they may still send; the caller adds the body bytes that it reads.
    exceeded: whether a connection was closed for this reason.
    """

    def __init__(self) -> None:
        super().__init__(force_close=True)
        self.bytes_left = _OVERHEAD_BYTES
        self.exceeded = False

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """As TCPConnector's; the bytes that come in are counted from here on."""
        connection = await super().connect(*args, **kwargs)
        if connection.transport is not None and connection.protocol is not None:
            connection.transport.set_protocol(_Counting(self, connection.transport, connection.protocol))
        return connection


class _Counting(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, as long as the connector has bytes left."""

    def __init__(self, connector: BoundedConnector, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._connector = connector
        self._transport = transport
        self._protocol = protocol

    def data_received(self, data: bytes) -> None:
        self._connector.bytes_left -= len(data)
        if self._connector.bytes_left < 0:
            self._connector.exceeded = True
            self._transport.abort()
        else:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
