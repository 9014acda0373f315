"""WS /v1/audio/speech/stream: the key, and pages of other origins."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from serverless.http.websocket import FIRST_MESSAGE_BYTES
from tests.helpers.http_server import Running
from tests.helpers.live_client import SHORT, Live, closed_with, live


@pytest.fixture
def locked(serve: Any) -> Running:
    return serve(api_key=SecretStr("s3cret-key"))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": "Bearer s3cret-key"}},
        {"additional_headers": {"X-API-Key": "s3cret-key"}},
        {"subprotocols": [Subprotocol("higgs-audio"), Subprotocol("bearer.s3cret-key")]},
    ],
    ids=["bearer", "header", "subprotocol"],
)
def test_the_key_comes_with_the_handshake(locked: Running, options: Any) -> None:
    with live(locked.url, **options) as client:
        assert client.socket.subprotocol == ("higgs-audio" if "subprotocols" in options else None)
        client.config(**SHORT)
        client.say("It is late now.")
        assert client.utterance()[1]["total_sentences"] == 1


def test_the_key_comes_in_the_first_message(locked: Running) -> None:
    with live(locked.url) as client:
        client.config(api_key="s3cret-key", **SHORT)
        client.say("It is late now.")
        heard, _ = client.utterance()
        assert not any("api_key" in warning for warning in heard[0].done["warnings"])


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, {"type": "session.config"}),
        ({}, {"type": "session.config", "api_key": "s3cret"}),
        ({}, {"type": "session.config", "api_key": ["s3cret-key"]}),
        ({}, {"type": "input.text", "text": "Hello."}),
        (
            {"additional_headers": {"Authorization": "Bearer wrong"}},
            {"type": "session.config", "api_key": "s3cret-key"},
        ),
        ({"subprotocols": [Subprotocol("bearer.wrong")]}, None),
    ],
    ids=["none", "wrong", "list", "text first", "wrong header", "wrong subprotocol"],
)
def test_without_the_key_nothing_is_served(locked: Running, options: Any, first: Any) -> None:
    with live(locked.url, **options) as client:
        if first:
            with suppress(ConnectionClosed):  # it may have been closed already
                client.socket.send(json.dumps(first))
        assert client.error()["code"] == "invalid_api_key"
        assert closed_with(client) == 4401
    assert locked.service.in_flight == 0


def test_a_key_in_the_address_is_none(locked: Running) -> None:
    address = locked.url.replace("http", "ws") + "/v1/audio/speech/stream?api_key=s3cret-key"
    with connect(address, proxy=None) as socket:
        client = Live(socket)
        client.config()
        assert client.error()["code"] == "invalid_api_key"


def test_who_shows_no_key_has_little_time_and_little_room(serve: Any) -> None:
    server = serve(api_key=SecretStr("s3cret-key"), max_header_seconds=0.3)
    with live(server.url) as client:
        assert client.error()["code"] == "invalid_api_key"
        assert closed_with(client) == 4401
    with live(server.url) as client:
        with suppress(ConnectionClosed):
            client.socket.send("x" * (FIRST_MESSAGE_BYTES + 1))
        assert closed_with(client) == 1009


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", ""])
def test_a_page_of_another_origin_is_refused(server: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught, live(server.url, additional_headers={"Origin": origin}):
        pass
    assert caught.value.response.status_code == 403


def test_the_servers_own_page_may_connect(server: Running) -> None:
    with live(server.url, origin=server.url) as client:
        client.config(**SHORT)
        client.say()
        assert client.utterance()[1]["total_sentences"] == 0
