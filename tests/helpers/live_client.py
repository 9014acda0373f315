"""A client of the live route, with the websockets library: what it sends, and what it hears of each sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from serverless.http.websocket import LIVE_ROUTE
from tests.helpers.patience import PATIENCE

TEXT = "It is late now. We should go home, as they wait for us. Good night to you all."
SENTENCES = ["It is late now.", "We should go home, as they wait for us.", "Good night to you all."]
SHORT = {"max_new_tokens": 30, "seed": 5, "response_format": "pcm"}
"""A configuration whose sentences end soon."""


@dataclass
class Heard:
    """One sentence: its two messages and the frames between them."""

    start: dict[str, Any]
    frames: list[bytes] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)

    @property
    def audio(self) -> bytes:
        return b"".join(self.frames)


@dataclass
class Live:
    socket: ClientConnection

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def config(self, **fields: Any) -> None:
        self.send("session.config", **fields)

    def text(self, text: str) -> None:
        self.send("input.text", text=text)

    def say(self, *pieces: str) -> None:
        """A whole utterance."""
        for piece in pieces:
            self.text(piece)
        self.send("input.done")

    def next(self) -> dict[str, Any] | bytes:
        received = self.socket.recv(PATIENCE)
        if isinstance(received, bytes):
            return received
        message: dict[str, Any] = json.loads(received)
        return message

    def message(self, kind: str) -> dict[str, Any]:
        """The next message, which has to be of that kind."""
        received = self.next()
        assert isinstance(received, dict), "audio"
        assert received["type"] == kind, received
        return received

    def error(self) -> dict[str, Any]:
        return self.message("error")

    def utterance(self) -> tuple[list[Heard], dict[str, Any]]:
        """The sentences until session.done, and that message."""
        heard: list[Heard] = []
        while True:
            received = self.next()
            if isinstance(received, bytes):
                heard[-1].frames.append(received)
            elif received["type"] == "audio.start":
                heard.append(Heard(received))
            elif received["type"] == "audio.done":
                heard[-1].done = received
            else:
                assert received["type"] == "session.done", received
                return heard, received


@contextmanager
def live(url: str, **options: Any) -> Iterator[Live]:
    """A session at the server of `url` (http://…). options: of the websockets library."""
    address = url.replace("http://", "ws://") + LIVE_ROUTE
    with connect(address, open_timeout=PATIENCE, close_timeout=PATIENCE, proxy=None, **options) as socket:
        yield Live(socket)


def closed_with(client: Live) -> int:
    """The code of the server's close, after whatever else it sends."""

    def until_it_closes() -> None:
        while True:
            client.next()

    with pytest.raises(ConnectionClosed) as caught:
        until_it_closes()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code
