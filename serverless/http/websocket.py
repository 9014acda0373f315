"""A WebSocket as uvicorn speaks it with websockets' parser, with the bounds that our HTTP connections have.

uvicorn itself bounds the size of a message and of a message's head, reads no further while a message waits for the app,
and closes a connection that answers no ping. Added here: a place among the server's connections, one budget for what
all clients have sent and nobody has taken, a time-out for one that does not read, and an end on SIGTERM that lets the
app finish. Messages are never compressed, so that none is larger than it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request
from websockets.server import ServerProtocol

from serverless.http.connections import STOPPING_SECONDS, Connections, Phase
from serverless.service.byte_budget import ByteBudget

logger = logging.getLogger(__name__)

LIVE_ROUTE = "/v1/audio/speech/stream"
"""The one route that is a WebSocket."""
FIRST_MESSAGE_BYTES = 65_536
"""The largest message until the app allows larger ones: whoever sends it may be anybody."""
CONNECTION = "connection"
"""Where the app finds the BoundedWebSocket in the scope's state."""

_MESSAGE_BYTES = 512  # what a message costs besides its own bytes
_FRAGMENT_BYTES = 64
_SILENT = logging.getLogger(f"{__name__}.peer")  # uvicorn and websockets would log addresses and what clients send
_SILENT.setLevel(logging.CRITICAL + 1)


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection after its upgrade. draining: set when the server stops; the app closes then, when it is ready."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        *,
        connections: Connections,
        unread: ByteBudget,
        arriving: ByteBudget,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.logger = _SILENT
        self.conn = ServerProtocol(max_size=FIRST_MESSAGE_BYTES, logger=_SILENT)
        self.phase = Phase.BODY
        self.since = self.loop.time()
        self.draining = asyncio.Event()
        self._open_connections = connections
        self._stalled_seconds = connections.limits.stalled
        self._unsent = 0  # bytes, when it was looked at last
        self._waiting = 0  # bytes of messages that the app has not taken
        self._sent = unread.hold(self.give_up)
        self._arrived = arriving.hold(self.give_up)

    def allow_messages(self, size: int) -> None:
        """Messages of up to `size` bytes, for a client that is known."""
        self.conn.max_message_size = size

    # -- What happens to the connection -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_connections.add(self, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self._sent.release()
        self._arrived.release()
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            self.scope["state"][CONNECTION] = self

    def handle_events(self) -> None:
        """The first data is a whole head, so what makes no request is one that websockets cannot read."""
        super().handle_events()
        if not self.handshake_initiated:
            self.give_up()

    def handle_parser_exception(self) -> None:
        """Where no closing frame can be sent, close without one."""
        if self.conn.close_sent is None:
            self.give_up()
        else:
            super().handle_parser_exception()

    def data_received(self, data: bytes) -> None:
        self.since = self.loop.time()
        super().data_received(data)
        self._count_arrived()

    def send_receive_event_to_app(self) -> None:
        self._waiting += _MESSAGE_BYTES + sum(map(len, self.frames))
        super().send_receive_event_to_app()

    async def receive(self) -> ASGIReceiveEvent:
        message = await super().receive()
        if self.queue.empty():
            self._waiting = 0
            self._count_arrived()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Raises ClientDisconnected where this side has closed the connection without being asked by the app: for a
        client that answers no ping, or that sends what is no frame."""
        await self.writable.wait()
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)

    def _count_arrived(self) -> None:
        fragments = sum(len(frame) + _FRAGMENT_BYTES for frame in self.frames)
        self._arrived.resize(len(self.conn.reader.buffer) + fragments + self._waiting)

    def shutdown(self) -> None:
        self._stalled_seconds = min(self._stalled_seconds, STOPPING_SECONDS)
        if self.handshake_complete and not self.close_sent:
            self.draining.set()
        else:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        """A pong that lies behind a message which the app does not take yet cannot have been read."""
        if self.read_paused:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()
            self.give_up()  # what is unsent would keep the connection open, and nobody takes it

    # -- What it waits for --------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Close the connection if its client has taken nothing for too long. A session without messages is the app's to
        watch."""
        unsent = self.transport.get_write_buffer_size()
        phase = Phase.BODY if self.writable.is_set() else Phase.ANSWER
        if phase is not self.phase or unsent < self._unsent:
            self.phase, self.since = phase, now
        self._unsent = unsent
        self._sent.resize(unsent)
        if self.phase is Phase.ANSWER and now - self.since > self._stalled_seconds:
            logger.info("a client that took nothing of its answer for %.0f seconds was cut off", now - self.since)
            self.give_up()

    def give_up(self) -> None:
        """Close at once; what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()
