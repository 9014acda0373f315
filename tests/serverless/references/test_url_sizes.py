"""A server that floods, compresses or lies about a length: the largest size holds, in bytes and in memory."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from serverless.network.fetch_guard import FetchRefused
from tests.helpers.loopback import Connection, Server
from tests.helpers.patience import PATIENCE
from tests.helpers.url_fetches import CAP, get, stay_silent


def _flood(head: bytes, piece: bytes) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        connection.send(head)
        while True:
            connection.send(piece)

    return script


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(_flood(b"HTTP/1.1 200 OK\r\n\r\n", b"R" * 65536), id="a body without an end"),
        pytest.param(
            _flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"R" * 65536 + b"\r\n"),
            id="chunks without an end",
        ),
        pytest.param(
            _flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
            id="a chunk line without an end",
        ),
        pytest.param(_flood(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), id="interim"),
        pytest.param(_flood(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 9999), id="headers without an end"),
        pytest.param(_flood(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536), id="a header line without an end"),
    ],
)
def test_a_flood_is_cut_at_the_size_and_never_held_in_memory(script: Callable[[Connection], None]) -> None:
    with Server(script) as server:
        tracemalloc.start()
        try:
            with pytest.raises(FetchRefused):
                get(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert server.gone.wait(PATIENCE)
    assert peak < 8_000_000


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(_flood(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), id="interim"),
        pytest.param(
            _flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536), id="a chunk extension"
        ),
        pytest.param(
            _flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 9000 + b"\r\nR\r\n"),
            id="more chunk extensions than body",
        ),
    ],
)
def test_a_flood_beside_the_body_is_cut_by_its_size_and_not_by_the_deadline(script: Callable[..., None]) -> None:
    with Server(script) as server, pytest.raises(FetchRefused, match="more bytes than are allowed"):
        get(server.url, seconds=PATIENCE)


def test_a_body_far_larger_than_what_may_come_beside_it_arrives() -> None:
    body = bytes(range(256)) * 20_000
    with Server(lambda connection: connection.answer(body)) as server:
        assert get(server.url, max_bytes=len(body)) == body


def test_a_declared_size_over_the_cap_is_refused_before_the_body() -> None:
    def script(connection: Connection) -> None:
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {CAP + 1}\r\n\r\n".encode())
        stay_silent(connection)

    with Server(script) as server:
        with pytest.raises(FetchRefused, match="more than 100000 bytes"):
            get(server.url)
        assert server.gone.wait(PATIENCE)


def test_the_cap_itself_passes_and_one_byte_more_does_not() -> None:
    def script(connection: Connection) -> None:
        body = b"R" * int(connection.path.strip("/"))
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)

    with Server(script) as server:
        assert get(f"{server.url}/{CAP}") == b"R" * CAP
        with pytest.raises(FetchRefused, match="more than 100000 bytes"):
            get(f"{server.url}/{CAP + 1}")


@pytest.mark.parametrize("declared", ["9" * 5000, "-1", "1e3", "0x10", "１２", "3, 4"])
def test_a_declared_size_that_is_no_size_breaks_nothing(declared: str) -> None:
    def script(connection: Connection) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {declared}\r\nConnection: close\r\n\r\n"
        connection.send(head.encode() + b"abc")

    with Server(script) as server, suppress(FetchRefused):
        assert get(server.url) == b"abc"


def test_a_body_that_ends_before_its_declared_size_is_refused() -> None:
    short = Server(lambda connection: connection.answer(b"abc", Content_Length="4"))
    with short as server, pytest.raises(FetchRefused, match="broke off"):
        get(server.url)


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity", "identity, gzip"])
def test_a_compressed_answer_is_refused_and_never_unpacked(coding: str) -> None:
    with Server(lambda connection: connection.answer(BOMB, Content_Encoding=coding)) as server:
        tracemalloc.start()
        try:
            with pytest.raises(FetchRefused, match="compressed"):
                get(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000


def test_the_compressed_body_of_a_redirect_is_never_unpacked() -> None:
    def script(connection: Connection) -> None:
        if connection.path == "/":
            connection.answer(BOMB, "302 Found", Location="/clip", Content_Encoding="gzip")
        else:
            connection.answer(b"arrived")

    with Server(script) as server:
        tracemalloc.start()
        try:
            assert get(server.url) == b"arrived"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000
