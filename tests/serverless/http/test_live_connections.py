"""WS /v1/audio/speech/stream: bytes on the wire, and clients that do not behave."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import requests

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.raw_http import connected, read_all, read_head
from tests.helpers.raw_websocket import HANDSHAKE, frame


def pings(server: Running) -> bool:
    return requests.get(f"{server.url}/ping", timeout=PATIENCE).status_code == 200


def test_a_client_that_takes_nothing_is_cut_off(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_stalled_seconds=0.3)
    with caplog.at_level(logging.INFO), connected(server.url, receive_buffer=4096) as raw:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in read_head(raw)
        words = "Many words to speak, one after the other. " * 20
        config = {
            "type": "session.config",
            "response_format": "wav",
            "wav_encoding": "float32",
            "stream_audio": True,
            "seed": 5,
        }
        for message in (config, {"type": "input.text", "text": words}, {"type": "input.done"}):
            raw.sendall(frame(json.dumps(message).encode()))
        wait_until(lambda: "was cut off" in caplog.text)
        wait_until(server.idle)
    wait_until(lambda: server.service.unread.total == 0 and server.app.state.bodies.budget.total == 0)
    assert "Traceback" not in caplog.text


def test_what_is_no_websocket_is_refused_or_answered_as_before(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    cases = {
        HANDSHAKE.replace(b"/v1/audio/speech/stream", b"/ping"): b" 200 ",
        HANDSHAKE.replace(b"Sec-WebSocket-Version: 13\r\n", b""): b" 4",
        HANDSHAKE.replace(b"GET", b"POST"): b" 4",
        HANDSHAKE.replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: 5\r\n") + b"hello": b" 400 ",
        HANDSHAKE.replace(b"Host: x\r\n", b"Host: x\r\n" + b"X-A: b\r\n" * 200): None,
    }
    for request, status in cases.items():
        with connected(server.url) as raw:
            raw.sendall(request)
            head = read_head(raw)
            assert head == b"" if status is None else status in head.split(b"\r\n")[0] + b" "
    with connected(server.url) as raw:
        raw.sendall(HANDSHAKE)
        read_head(raw)
        raw.sendall(b"\xff" * 64)  # no frame
        read_all(raw)
    wait_until(lambda: server.app.state.bodies.budget.total == 0)
    assert pings(server)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_comes_right_behind_the_handshake_is_read(serve: Any) -> None:
    server = serve()
    with connected(server.url) as raw:
        raw.sendall(HANDSHAKE + frame(b'{"type": "session.close"}'))
        got = read_head(raw)
        while b"\x88" not in got.partition(b"\r\n\r\n")[2]:  # the closing frame
            part = raw.recv(4096)
            assert part
            got += part
