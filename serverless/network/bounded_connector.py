"""aiohttp connections on which servers can send only so much besides the body.

aiohttp limits header lines, but reads interim (1xx) responses and chunk extensions without an end.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import aiohttp

_OVERHEAD_BYTES = 2**20  # headers, interim responses, chunk lines, and body bytes that are buffered but not yet read
_RESET = struct.pack("ii", 1, 0)  # linger for no time: what the system still holds is thrown away


class BoundedConnector(aiohttp.TCPConnector):
    """One connection at a time, a new one for each request, closed once the servers together have sent too much.

    bytes_left: what they may still send; the caller adds the body bytes that it reads.
    exceeded: whether a connection was closed for this reason.
    """

    def __init__(self) -> None:
        super().__init__(force_close=True)
        self._newest: asyncio.Transport | None = None
        self.renew()

    def renew(self) -> None:
        """Allow as much again: for a caller whose requests have nothing to do with each other."""
        self.bytes_left = _OVERHEAD_BYTES
        self.exceeded = False

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """As TCPConnector's; the bytes that come in are counted from here on, and the connection before is reset."""
        self.reset()
        connection = await super().connect(*args, **kwargs)
        if connection.transport is not None and connection.protocol is not None:
            self._newest = connection.transport
            connection.transport.set_protocol(_Counting(self, connection.transport, connection.protocol))
        return connection

    def reset(self) -> None:
        """End the newest connection. A plain close would hold what a server does not take, for as long as it likes."""
        transport, self._newest = self._newest, None
        if transport is None:
            return
        if (sock := transport.get_extra_info("socket")) is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


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
