"""HTTP/1.1 as uvicorn speaks it with h11, with bounds on what a client may make the server wait for.

uvicorn itself bounds the size of the headers and the time between two requests. Added here: a time-out for the headers,
one for a client that does not read its answer, an end for bodies that nobody reads, room for a new connection where
there are too many, and the refusal of a few forms that h11 lets through.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
from functools import partial
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from serverless.http.connections import STOPPING_SECONDS, ConnectionLimits, Connections, Phase
from serverless.http.websocket import LIVE_ROUTE, BoundedWebSocket
from serverless.service.byte_budget import ByteBudget

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 * 1024
_SEND_BUFFER_BYTES = 256 * 1024
"""Of the kernel, for one connection: with more of it a slow client would seem to read in leaps, minutes apart."""
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FEW_CHUNKS = 4096
_SMALL_CHUNK_BYTES = 64


def bounded_protocol(
    limits: ConnectionLimits, unread: ByteBudget, arriving: ByteBudget | None = None
) -> type[asyncio.Protocol]:
    """What uvicorn makes a connection's protocol with. unread: counts answers that clients have not taken yet.
    arriving: counts messages of WebSockets that the app has not taken yet; None serves no WebSockets."""
    made = partial(BoundedProtocol, connections=Connections(limits), unread=unread, arriving=arriving)
    return cast("type[asyncio.Protocol]", made)  # uvicorn calls it, and nothing else


class StrictParser(h11.Connection):
    """Refuses what h11 accepts: large headers that arrive in one piece, other versions of HTTP, a body framed in two
    ways at once, which a proxy in front may read the other way, and one in very many small chunks, each of which costs
    as much time as a large one."""

    def __init__(self, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        super().__init__(h11.SERVER, max_header_bytes)
        self._max_header_bytes = max_header_bytes
        self._chunks = self._bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            waiting, _ = self.trailing_data
            if len(waiting) > self._max_header_bytes and not _BLANK_LINE.search(waiting, 0, self._max_header_bytes):
                raise h11.RemoteProtocolError("headers too large")
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
            if event.http_version not in (b"1.0", b"1.1"):
                raise h11.RemoteProtocolError("another version of HTTP")
            names = {bytes(name).lower() for name, _ in event.headers}
            if {b"transfer-encoding", b"content-length"} <= names:
                raise h11.RemoteProtocolError("two framings of one body")
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > _FEW_CHUNKS + self._bytes // _SMALL_CHUNK_BYTES:
                raise h11.RemoteProtocolError("chunks too small")
        return event


class BoundedProtocol(H11Protocol):
    """One connection. phase, since: what it waits for, and from when on; for an answer that is read, since the client
    took something last."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        unread: ByteBudget,
        arriving: ByteBudget | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = StrictParser()
        self.access_log = config.access_log  # uvicorn asks the logger, which others may have given a handler
        self.phase = Phase.REQUEST
        self.since = self.loop.time()
        self._open_connections = connections
        self._limits = connections.limits
        self._stalled_seconds = connections.limits.stalled
        self._upgraded = False  # the connection is a WebSocket's now
        self._idle = False  # between two requests, of which nothing has come yet
        self._unsent = 0  # bytes of the answer, when it was looked at last
        self._discarded = 0
        self._unread, self._arriving = unread, arriving
        self._hold = unread.hold(self.give_up)

    # -- What happens to the connection -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if (kernel := transport.get_extra_info("socket")) is not None:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._open_connections.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self._hold.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle:
            self._idle, self.since = False, self.loop.time()
        if self.phase is Phase.DISCARDING:
            self._discarded += len(data)
            if self._discarded > self._limits.discarded:
                self.give_up()
                return
        super().data_received(data)
        if not self._upgraded:
            self._update()

    def _should_upgrade(self) -> bool:
        """Elsewhere a client that would like to upgrade gets an ordinary answer, as HTTP allows."""
        to_live = (self.scope["method"], self.scope["path"]) == ("GET", LIVE_ROUTE)
        return to_live and self._arriving is not None and self._get_upgrade() == b"websocket"

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over, its place among the others and what the client has sent already with it."""
        if {b"content-length", b"transfer-encoding"} & {name for name, _ in self.headers}:
            self.send_400_response("A WebSocket's request has no body.")
            return
        assert self._arriving is not None
        websocket = BoundedWebSocket(
            self.config,
            self.server_state,
            self.app_state,
            self.loop,
            connections=self._open_connections,
            unread=self._unread,
            arriving=self._arriving,
        )
        self._upgraded = True
        self.connections.discard(self)
        self._open_connections.discard(self)
        self._hold.release()
        head = [b"%s %s HTTP/1.1" % (event.method, event.target), *(b"%s: %s" % header for header in self.headers)]
        early, _ = self.conn.trailing_data
        websocket.connection_made(self.transport)
        self.transport.set_protocol(websocket)
        websocket.data_received(b"\r\n".join([*head, b"", b""]) + early)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._update()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._update()

    def shutdown(self) -> None:
        self._stalled_seconds = min(self._stalled_seconds, STOPPING_SECONDS)
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn does, where an answer is still possible; the app is told that its client has gone."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.give_up()
            return
        super().send_400_response(msg)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    # -- What it waits for --------------------------------------------------------------------------------------------

    def _update(self) -> None:
        phase = self._current_phase()
        if phase is self.phase:
            return
        self.phase, self.since = phase, self.loop.time()
        self._idle = phase is Phase.REQUEST
        self._discarded = 0
        self._unsent = self.transport.get_write_buffer_size() if phase is Phase.ANSWER else 0
        self._hold.resize(self._unsent)

    def _current_phase(self) -> Phase:
        cycle, sending = self.cycle, self.conn.their_state is h11.SEND_BODY
        if cycle is None:
            return Phase.REQUEST
        if not cycle.response_complete:
            if self.flow.write_paused:
                return Phase.ANSWER
            return Phase.BODY if sending else Phase.WORKING
        if self.transport.get_write_buffer_size():
            return Phase.ANSWER
        return Phase.DISCARDING if sending else Phase.REQUEST

    def look(self, now: float) -> None:
        """Close the connection if what it waits for takes too long. The time between two requests is uvicorn's to
        watch, the time for a body the app's."""
        self._update()
        if self.phase is Phase.ANSWER and (unsent := self.transport.get_write_buffer_size()) != self._unsent:
            if unsent < self._unsent:
                self.since = now
            self._unsent = unsent
            self._hold.resize(unsent)
        if now - self.since > self._patience():
            if self.phase is Phase.ANSWER:
                logger.info("a client that took nothing of its answer for %.0f seconds was cut off", now - self.since)
            self.give_up()

    def _patience(self) -> float:
        """Seconds that it may wait for what it waits for."""
        if self.phase is Phase.ANSWER:
            return self._stalled_seconds
        if self.phase is Phase.DISCARDING:
            return self._limits.linger
        return self._limits.header if self.phase is Phase.REQUEST and not self._idle else math.inf

    def give_up(self) -> None:
        """Close at once; what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()
