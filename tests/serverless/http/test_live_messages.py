"""WS /v1/audio/speech/stream: messages that are wrong."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.helpers.http_server import Running
from tests.helpers.live_client import SHORT, closed_with, live

WRONG = [
    ({"type": "session.config", "temperature": 99}, "temperature"),
    ({"type": "session.config", "voice": "nobody"}, "voice"),
    ({"type": "session.config", "model": "gpt-99"}, "model"),
    ({"type": "session.config", "response_format": "doc"}, "response_format"),
    ({"type": "session.config", "stream_audio": "yes"}, "stream_audio"),
    ({"type": "session.config", "input": "Hello."}, "input"),
    ({"type": "input.text"}, "text"),
    ({"type": "input.text", "text": 5}, "text"),
    ({"type": "input.sing"}, "type"),
    ({}, "type"),
]


@pytest.mark.parametrize(
    ("message", "field"), WRONG, ids=[f"{field}-{index}" for index, (_, field) in enumerate(WRONG)]
)
def test_what_is_wrong_is_named_and_the_session_goes_on(server: Running, message: Any, field: str) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.send(**{"kind": message.get("type", "?"), **{k: v for k, v in message.items() if k != "type"}})
        error = client.error()
        assert error["field"] == field
        assert error["message"]
        client.say("It is late now.")
        heard, _ = client.utterance()
        assert len(heard[0].audio) > 0


def test_no_json_is_an_error_and_binary_ends_the_session(server: Running) -> None:
    with live(server.url) as client:
        for text in ("{", "[]", '"', "null", "1e999"):
            client.socket.send(text)
            assert client.error()["code"] == "invalid_request"
        client.text("Hello.")
        assert "session.config" in client.error()["message"]
        client.socket.send(b"\x00\x01")
        assert closed_with(client) == 1003


def test_too_many_errors_end_the_session(server: Running) -> None:
    with live(server.url) as client:
        with suppress(ConnectionClosed):
            for _ in range(40):
                client.socket.send("{")
        assert closed_with(client) == 1008


def test_a_configuration_in_mid_utterance_is_refused(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is")
        client.config(seed=1)
        assert "in the middle" in client.error()["message"]
        client.say(" late now.")
        assert client.utterance()[0][0].done["seed"] == 5


def test_a_text_that_is_too_long_is_refused_and_what_came_before_is_spoken(serve: Any) -> None:
    server = serve(max_script_characters=40)
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is late now. ")
        client.text("x" * 40)
        heard = [client.next()]
        while not (isinstance(heard[-1], dict) and heard[-1]["type"] == "error"):
            heard.append(client.next())
        assert heard[-1]["field"] == "text"
        client.send("input.done")
        while not (isinstance(heard[-1], dict) and heard[-1]["type"] == "session.done"):
            heard.append(client.next())
        assert heard[-1]["total_sentences"] == 1
