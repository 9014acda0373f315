"""What a connection may wait for, and which one makes room: with a clock and a transport of the test's own."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from serverless.http.connections import (
    STOPPING_SECONDS,
    ConnectionLimits,
    Connections,
    Phase,
    connection_count,
)
from serverless.http.protocol import BoundedProtocol
from serverless.http.websocket import BoundedWebSocket
from serverless.service.byte_budget import ByteBudget

LIMITS = ConnectionLimits(count=3, header=20, stalled=60, discarded=1000, linger=30)
UPGRADE = (
    b"GET /v1/audio/speech/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"


class Transport(asyncio.Transport):
    """Keeps what is written until the test takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent = 0
        self.aborted = self.closing = False
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing or self.aborted

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Clock:
    """As much of an event loop as a connection needs; the app's tasks run in the real one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def call_later(self, *_: Any) -> asyncio.TimerHandle:
        return cast(asyncio.TimerHandle, _Never())

    def create_task(self, work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)


class _Never:
    def cancel(self) -> None:
        pass


class Server:
    """Connections whose requests are all answered by `size` bytes, unless `answers` is false."""

    def __init__(self, limits: ConnectionLimits = LIMITS, *, size: int = 10, answers: bool = True) -> None:
        self.clock = Clock()
        self.connections = Connections(limits)
        self.unread = ByteBudget(10_000_000)
        self.arriving = ByteBudget(10_000_000)
        self.size = size
        self.answers = answers

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not self.answers:
            await asyncio.Event().wait()
        length = str(self.size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": b"x" * self.size})

    def connect(self) -> tuple[BoundedProtocol, Transport]:
        config = uvicorn.Config(cast(Any, self.app), interface="asgi3", lifespan="off", log_config=None)
        loop = cast(asyncio.AbstractEventLoop, self.clock)
        budgets = {"unread": self.unread, "arriving": self.arriving}
        protocol = BoundedProtocol(config, ServerState(), {}, loop, connections=self.connections, **budgets)
        transport = Transport()
        protocol.connection_made(transport)
        return protocol, transport

    def upgrade(self) -> tuple[BoundedWebSocket, Transport]:
        """A WebSocket whose handshake the app has not answered yet."""
        protocol, transport = self.connect()
        protocol.data_received(UPGRADE)
        assert isinstance(transport.protocol, BoundedWebSocket)
        return transport.protocol, transport

    def look_after(self, protocol: BoundedProtocol | BoundedWebSocket, seconds: float) -> None:
        self.clock.now += seconds
        protocol.look(self.clock.now)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


async def answered() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_loop
async def test_headers_have_so_long_from_the_connection_on_however_often_a_byte_comes() -> None:
    server = Server()
    protocol, transport = server.connect()
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(4):
        server.look_after(protocol, 5)
        protocol.data_received(b"X: y\r\n")
    assert not transport.aborted
    server.look_after(protocol, 0.1)
    assert transport.aborted


@in_loop
async def test_the_next_request_has_so_long_from_its_first_byte_on() -> None:
    server = Server()
    protocol, transport = server.connect()
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert protocol.phase is Phase.WORKING
    await answered()
    transport.unsent = 0
    server.look_after(protocol, 0)
    assert protocol.phase is Phase.REQUEST
    server.look_after(protocol, 74)  # the time between two requests is uvicorn's to watch
    assert not transport.aborted
    protocol.data_received(b"GET")
    server.look_after(protocol, 19)
    assert not transport.aborted
    server.look_after(protocol, 2)
    assert transport.aborted


@in_loop
async def test_a_client_that_reads_slowly_is_not_cut_off_and_one_that_stops_is() -> None:
    server = Server(size=500_000)
    protocol, transport = server.connect()
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await answered()
    assert protocol.phase is Phase.ANSWER
    assert server.unread.total == transport.unsent > 500_000
    for _ in range(20):
        transport.unsent -= 1
        server.look_after(protocol, 59)
        assert not transport.aborted
    assert server.unread.total == transport.unsent
    server.look_after(protocol, 61)
    assert transport.aborted
    protocol.connection_lost(None)
    assert server.unread.total == 0


@in_loop
async def test_a_server_that_stops_waits_less_for_those_who_do_not_read() -> None:
    server = Server(size=500_000)
    protocol, transport = server.connect()
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await answered()
    protocol.shutdown()
    server.look_after(protocol, STOPPING_SECONDS - 1)
    assert not transport.aborted
    server.look_after(protocol, 2)
    assert transport.aborted


@in_loop
async def test_answers_that_are_too_much_together_cost_the_largest_its_connection() -> None:
    server = Server(size=500_000)
    server.unread.limit = 1_200_000
    transports = []
    for size in (300_000, 500_000, 450_000):
        server.size = size
        protocol, transport = server.connect()
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await answered()
        transports.append(transport)
    assert [transport.aborted for transport in transports] == [False, True, False]


@pytest.mark.parametrize(("size", "seconds", "aborted"), [(999, 29, False), (999, 31, True), (1001, 0, True)])
@in_loop
async def test_the_body_of_an_answered_request_is_discarded_up_to_a_bound(
    size: int, seconds: float, aborted: bool
) -> None:
    server = Server()
    protocol, transport = server.connect()
    protocol.data_received(HEAD)
    assert protocol.phase is Phase.BODY
    await answered()
    transport.unsent = 0
    server.look_after(protocol, 0)
    assert protocol.phase is Phase.DISCARDING
    protocol.data_received(b"x" * size)
    server.look_after(protocol, seconds)
    assert transport.aborted is aborted


@in_loop
async def test_a_connection_goes_on_after_a_body_that_nobody_read() -> None:
    server = Server()
    protocol, transport = server.connect()
    protocol.data_received(HEAD.replace(b"5000", b"500"))
    await answered()
    transport.unsent = 0
    server.look_after(protocol, 0)
    protocol.data_received(b"x" * 500)
    assert protocol.phase is Phase.REQUEST
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await answered()
    assert transport.unsent
    assert not transport.aborted


@in_loop
async def test_who_has_waited_longest_without_a_request_makes_room() -> None:
    server = Server(answers=False)
    (working, at_work), (sending, upload), (_, half) = server.connect(), server.connect(), server.connect()
    working.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    sending.data_received(HEAD)
    server.clock.now += 1
    new, _ = server.connect()
    assert (at_work.aborted, upload.aborted, half.aborted) == (False, False, True)
    new.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.connect()
    assert (at_work.aborted, upload.aborted) == (False, True)
    assert new.phase is working.phase is Phase.WORKING


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"10\r\n" + b"x" * 16 + b"\r\n"], ids=["of one byte", "of sixteen"])
@in_loop
async def test_a_body_in_very_many_small_chunks_is_refused(chunk: bytes) -> None:
    server = Server(answers=False)
    protocol, transport = server.connect()
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    protocol.data_received(chunk * 4096)
    assert not transport.closing
    protocol.data_received(chunk * 4096)
    assert transport.closing
    assert protocol.cycle.disconnected


def test_connections_leave_descriptors_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(soft: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    limited(300)
    assert (connection_count(512), connection_count(50)) == (100, 50)
    limited(resource.RLIM_INFINITY)
    assert connection_count(512) == 512


def test_looks_come_often_enough_for_the_shortest_time() -> None:
    assert LIMITS.seconds_between_looks == 1
    assert replace(LIMITS, stalled=0.4).seconds_between_looks == pytest.approx(0.1)


# -- WebSockets -------------------------------------------------------------------------------------------------------


@in_loop
async def test_a_websocket_keeps_the_place_of_its_connection_and_gives_it_back() -> None:
    server = Server(replace(LIMITS, count=1), answers=False)
    first, first_transport = server.upgrade()
    server.look_after(first, 30)
    assert not first_transport.aborted, "the time for headers is over with them"
    second, second_transport = server.upgrade()
    assert first_transport.aborted, "the one that has waited longest makes room"
    second.connection_lost(None)
    _, third_transport = server.upgrade()
    server.upgrade()
    assert (second_transport.aborted, third_transport.aborted) == (False, True)


@in_loop
async def test_a_websocket_whose_client_takes_nothing_is_given_up_and_one_that_reads_slowly_is_not() -> None:
    server = Server(answers=False)
    websocket, transport = server.upgrade()
    transport.unsent = 100_000
    websocket.pause_writing()
    server.look_after(websocket, 1)
    assert server.unread.total == 100_000
    for _ in range(3):
        transport.unsent -= 1
        server.look_after(websocket, 59)
        server.look_after(websocket, 0)
    assert not transport.aborted
    server.look_after(websocket, 61)
    assert transport.aborted


@in_loop
async def test_a_pong_behind_a_message_that_waits_is_no_missing_pong() -> None:
    server = Server(answers=False)
    websocket, transport = server.upgrade()
    websocket.read_paused = True
    websocket.keepalive_timeout()
    assert not transport.is_closing()
    assert websocket.ping_timer is not None, "it is asked again"
