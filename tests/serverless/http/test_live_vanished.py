"""WS /v1/audio/speech/stream: clients that vanish without a word, in the middle of a sentence."""

from __future__ import annotations

import json
import logging
import socket
import struct
from typing import Any

import pytest

from serverless.http.websocket import BoundedWebSocket
from tests.helpers.held_engine import Held
from tests.helpers.http_server import Running
from tests.helpers.patience import wait_until
from tests.helpers.raw_http import connected, read_head
from tests.helpers.raw_websocket import HANDSHAKE, frame

MESSAGES: list[dict[str, Any]] = [
    {"type": "session.config", "response_format": "wav", "wav_encoding": "float32", "stream_audio": True, "seed": 5},
    {"type": "input.text", "text": "Marmalade is late now. We should go home."},
    {"type": "input.done"},
]


def connection_of(server: Running) -> BoundedWebSocket:
    (connection,) = [each for each in server.connections if isinstance(each, BoundedWebSocket)]
    return connection


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the server has logged: the level, and the first words."""
    found = [record for record in caplog.records if record.name.startswith(("serverless", "uvicorn", "asyncio"))]
    return [(record.levelname, record.getMessage().split(":")[0]) for record in found]


@pytest.mark.parametrize("way", ["answers no ping", "answers no ping and reads nothing", "is reset", "sends no frame"])
def test_a_client_that_vanishes_in_mid_sentence_frees_its_slot_and_is_no_error(
    held: Held, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    server, reads = held.server, way != "answers no ping and reads nothing"
    with caplog.at_level(logging.INFO), connected(server.url, receive_buffer=None if reads else 4096) as raw:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in read_head(raw)
        connection = connection_of(server)
        if not reads:
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        caplog.clear()
        for message in MESSAGES:
            raw.sendall(frame(json.dumps(message).encode()))
        if reads:
            got = b""
            while b"RIFF" not in got:
                got += raw.recv(4096)
        else:
            wait_until(lambda: connection.transport.get_write_buffer_size() > 0)
        assert server.service.in_flight == 1  # the sentence stays in its middle
        if way == "is reset":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        elif way == "sends no frame":
            raw.sendall(b"\xff" * 64)
        else:
            connection.loop.call_soon_threadsafe(connection.keepalive_timeout)
            wait_until(lambda: connection.close_sent)
            if not reads:
                held.may_go_on.set()  # there is more to send
        wait_until(lambda: "live session ended" in caplog.text)
        wait_until(lambda: server.service.stats()["active"] == 0)
        wait_until(lambda: server.service.unread.total == 0 and server.app.state.bodies.budget.total == 0)
        job, session = lines(caplog)
        assert session == ("INFO", "live session ended")
        assert job == ("INFO", "job cancelled") or (not reads and job == ("INFO", "job finished"))
        held.may_go_on.set()
        wait_until(server.idle)
    assert "Marmalade" not in caplog.text
