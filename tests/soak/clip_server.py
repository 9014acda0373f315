"""What the references of the soak's jobs point at: clips, and servers that never answer or never end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.loopback import Connection, Server
from tests.helpers.paths import ASSETS
from tests.soak.clips import random_clip


@contextmanager
def clip_server() -> Iterator[str]:
    """Yields its address, with a slash at the end. `clip/SEED` is a clip of its own for each seed."""
    with Server(_answer) as server:
        yield f"{server.url}/"


def _answer(connection: Connection) -> None:
    name = connection.path.removeprefix("/")
    if name.startswith("clip/"):
        connection.answer(random_clip(random.Random(name)))
    elif name == "loop":
        connection.redirect("/loop")
    elif name == "endless":
        connection.drip(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\n" + bytes(1000))
    elif name == "silent":
        connection.sock.recv(1)  # until the worker gives up
    elif (ASSETS / name).is_file():
        connection.answer((ASSETS / name).read_bytes())
    else:
        connection.answer(b"There is no such clip.", "404 Not Found")
