"""A client of the live route, with the websockets library: what it sends, and what it hears of each sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import ClientConnection, connect

from serverless.http.websocket import LIVE_ROUTE
from tests.helpers.patience import PATIENCE


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
