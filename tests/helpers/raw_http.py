"""Requests as bytes on a socket, for what no HTTP library would send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.helpers.patience import PATIENCE


@contextmanager
def connected(url: str, *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection to the server of `url`. receive_buffer: bytes, of the kernel."""
    parts = urlsplit(url)
    with socket.socket() as raw:
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(PATIENCE)
        raw.connect((parts.hostname, parts.port))
        yield raw


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A POST of JSON. length: what it states, where that is not the body's."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    stated = len(body) if length is None else length
    return "\r\n".join([*lines, f"Content-Length: {stated}", "", ""]).encode() + body


def read_all(raw: socket.socket) -> bytes:
    """Everything until the server closes, or breaks off."""
    parts = []
    try:
        while part := raw.recv(65_536):
            parts.append(part)
    except TimeoutError:
        raise
    except OSError:
        pass
    return b"".join(parts)


def read_head(raw: socket.socket) -> bytes:
    """The first bytes of an answer, to the end of its headers at least."""
    got = b""
    while b"\r\n\r\n" not in got and (part := raw.recv(4096)):
        got += part
    return got
