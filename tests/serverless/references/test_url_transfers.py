"""What a server may do once it is dialled: trickle, flood, compress, lie, never end. None of it gets through."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.references.url_fetch import fetch
from tests.helpers.certificates import certificate, needs_openssl
from tests.helpers.clips import resolve
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.paths import CLIP, ROOT
from tests.helpers.patience import PATIENCE, wait_until_async

CLIP_BYTES = CLIP.read_bytes()
CAP = 100_000


def get(url: str, *, seconds: float = 10, max_bytes: int = CAP, guard: FetchGuard = LOOPBACK) -> bytes:
    return asyncio.run(fetch(url, guard, timeout_seconds=seconds, max_bytes=max_bytes, max_redirects=3))


def _slow_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
    connection.drip(b"R")


def _slow_headers(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    connection.drip(b"x")


def _slow_status(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 ")
    connection.drip(b"O")


def _slow_junk(connection: Connection) -> None:
    connection.drip(b"H")


def _endless_interim_answers(connection: Connection) -> None:
    connection.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


def _slow_chunks(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.drip(b"1\r\nR\r\n")


def _silence(connection: Connection) -> None:
    while connection.sock.recv(1):
        pass
    raise OSError


def _slow_redirects(connection: Connection) -> None:
    threading.Event().wait(0.2)
    connection.redirect("/again")


@pytest.mark.parametrize(
    "script", [_slow_body, _slow_headers, _slow_status, _endless_interim_answers, _slow_chunks, _silence]
)
def test_a_trickle_is_cut_at_the_deadline_and_its_connection_given_up(script: Callable[[Connection], None]) -> None:
    with Server(script) as server:
        with pytest.raises(FetchRefused, match="longer than the download timeout"):
            get(server.url, seconds=0.3)
        assert server.gone.wait(PATIENCE)


def test_a_trickle_that_is_not_http_is_not_waited_for() -> None:
    with Server(_slow_junk) as server:
        with pytest.raises(FetchRefused, match="not HTTP"):
            get(server.url, seconds=PATIENCE)
        assert server.gone.wait(PATIENCE)


def test_redirects_share_one_deadline() -> None:
    with Server(_slow_redirects) as server, pytest.raises(FetchRefused, match="longer than the download timeout"):
        get(server.url, seconds=0.5)


def test_a_cancelled_fetch_stops_although_bytes_still_come() -> None:
    async def cancelled(url: str) -> None:
        task = asyncio.create_task(fetch(url, LOOPBACK, timeout_seconds=PATIENCE, max_bytes=CAP, max_redirects=3))
        await wait_until_async(lambda: bool(server.seen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Server(_slow_body) as server:
        asyncio.run(cancelled(server.url))
        assert server.gone.wait(PATIENCE)


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
        _silence(connection)

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


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial", "300 Choices", "304 Same", "404 No", "500 Broken"])
def test_every_status_but_200_is_refused(status: str) -> None:
    answering = Server(lambda connection: connection.answer(b"", status))
    with answering as server, pytest.raises(FetchRefused, match=f"answered {status[:3]}"):
        get(server.url)


@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"\x00" * 100, b"HTTP/9.9 abc\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"+OK\r\n" * 50),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nR\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nR\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nR\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nR",
    ],
)
def test_what_is_not_http_is_refused(junk: bytes) -> None:
    with Server(lambda connection: connection.send(junk)) as server, pytest.raises(FetchRefused):
        get(server.url)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = [
    *(
        CHUNKED + body
        for body in (
            *(b"-5\r\nhello\r\n0\r\n\r\n", b"-5\r\n", b"5\r\nhello\r\n-5\r\nhello\r\n", b"-0\r\n\r\n", b"--5\r\n"),
            *(
                b"+5\r\nhello\r\n0\r\n\r\n",
                b"0x5\r\nhello\r\n0\r\n\r\n",
                b" 5\r\nhello\r\n0\r\n\r\n",
                b"5_0\r\nhello\r\n",
            ),
            *(
                b"F" * 16 + b"\r\nhello",
                b"F" * 17 + b"\r\nhello",
                b"f" * 70_000 + b"\r\n",
                b"0" * 70_000 + b"5\r\nhello",
            ),
            *(b"\r\n", b"5\nhello\n0\n\n", b"5\r\nhelloXX0\r\n\r\n", b"5;a=\x00\r\nhello\r\n0\r\n\r\n", b"\xb2\r\nab"),
            *(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\r\nhello\r\n0\r\n\x00\r\n", b"0\r\n" + b"A: b\r\n" * 100_000),
        )
    ),
    *(
        OK + head + b"\r\nhello"
        for head in (
            *(
                b"Content-Length: -5\r\n",
                b"Content-Length: +5\r\n",
                b"Content-Length: 5, 5\r\n",
                b"Content-Length: \r\n",
            ),
            *(
                b"Content-Length: 5\r\n" * 2,
                b"Content-Length: 5\r\nContent-Length: 6\r\n",
                b"Content-Length: 5\r\n" * 900,
            ),
            *(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Content-Length: " + b"9" * 30 + b"\r\n"),
            *(b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
            *(b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: \r\n", b"Transfer-Encoding: chunked\r\n" * 2),
            *(
                b"X: a\r\n b\r\n",
                b" X: a\r\n",
                b"X: a\r\n\tb\r\n",
                b"X\x00: a\r\n",
                b"X: a\x00b\r\n",
                b": a\r\n",
                b"X a\r\n",
            ),
            *(b"X : a\r\n", b"X: \xff\xfe\r\n", b"Content-Encoding: \xff\r\n", b"Content-Type: \x00;=\r\n"),
            *(b"Set-Cookie: a=b; domain=\x00\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Connection: \xff\r\n"),
        )
    ),
    *(
        b"HTTP/1.1 " + start + b"\r\n\r\nhello"
        for start in (b"-200 OK", b"9" * 20 + b" OK", b"2_0 OK", b"200", b"\xb2\xb0\xb0 OK", b"199 X", b"101 X", b"0 X")
    ),
    *(
        b"HTTP/1.1 302 Found\r\nLocation: " + to + b"\r\n\r\n"
        for to in (
            b"http://[::1",
            b"\xff\xfe",
            b"///",
            b"http:",
            b"//%00",
            b"http://\xe2\x80\x8b/",
            b"http://xn--\xff.x/",
            b"\x00",
        )
    ),
    *(b"HTTP/-1.1 200 OK\r\n\r\n", b"HTTP/1." + b"9" * 30 + b" 200 OK\r\n\r\n", b"http/1.1 200 OK\r\n\r\nhello"),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 30_000 + OK + b"\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 9 + OK + b"\r\nhello",
]


async def _ends(url: str) -> None:
    """It ends in a body or a refusal. Some errors the parser in C keeps to itself: there the deadline ends it."""
    with suppress(FetchRefused):
        body = await fetch(url, LOOPBACK, timeout_seconds=2, max_bytes=CAP, max_redirects=3)
        assert body in (b"hello", b"hello\n0\n\n", b"", b"5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("extensions", [True, False], ids=["parser in C", "parser in Python"])
def test_whatever_a_server_answers_is_a_clip_or_a_refusal(extensions: bool) -> None:
    """Both of aiohttp's parsers, as which one there is depends on the machine; the second in a process of its own."""
    if not extensions:
        code = "from tests.serverless.references.test_url_transfers import answers_end; answers_end(slowly=False)"
        environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    else:
        answers_end(slowly=True)


def answers_end(*, slowly: bool) -> None:
    """Every one of ANSWERS.  slowly: once more, byte by byte around the end of its headers."""

    async def ask(url: str) -> None:
        for number in range(len(ANSWERS)):
            await _ends(f"{url}/{number}")
            if slowly:
                await _ends(f"{url}/{number}/slowly")

    def script(connection: Connection) -> None:
        answer = ANSWERS[int(connection.path.split("/")[1])] if connection.path[1:2].isdigit() else b""
        if connection.path.endswith("slowly"):
            connection.send(answer[:40])
            for at in range(40, 80):
                connection.send(answer[at : at + 1])
            answer = answer[80:]
        connection.send(answer)

    with Server(script) as server:
        asyncio.run(ask(server.url))


@pytest.mark.parametrize(
    "whole", [CHUNKED + b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nhello"]
)
def test_an_answer_cut_at_any_byte_is_refused(whole: bytes) -> None:
    async def ask(url: str) -> list[bytes]:
        bodies = []
        for at in range(len(whole) + 1):
            with suppress(FetchRefused):
                bodies.append(
                    await fetch(f"{url}/{at}", LOOPBACK, timeout_seconds=PATIENCE, max_bytes=CAP, max_redirects=0)
                )
        return bodies

    with Server(lambda connection: connection.send(whole[: int(connection.path[1:])])) as server:
        assert asyncio.run(ask(server.url)) == [b"hello"]


def test_an_error_of_the_parser_that_nobody_foresaw_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("negative count")

    monkeypatch.setattr(aiohttp.StreamReader, "iter_chunked", broken)
    answering = Server(lambda connection: connection.answer(b"hello"))
    with answering as server, pytest.raises(FetchRefused, match="not HTTP"):
        get(server.url)


def test_a_resolver_that_hangs_does_not_hold_the_request() -> None:
    release = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        release.wait(PATIENCE)
        return ["127.0.0.1"]

    source = ReferenceSource("references[0]", url="http://slow.example/a.wav")
    try:
        with pytest.raises(ReferenceAudioError, match="could not be fetched"):
            asyncio.run(resolve([source], Settings(), timeout_seconds=0.2, guard=FetchGuard(resolver=hanging)))
    finally:
        release.set()


@needs_openssl
def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    context = certificate(tmp_path, "IP:127.0.0.1")
    with Server(lambda connection: connection.answer(CLIP_BYTES), tls=context) as server:
        with pytest.raises(FetchRefused, match="TLS"):
            get(server.url)
        assert server.seen == []


@needs_openssl
def test_a_certificate_is_checked_against_the_name_in_the_url_and_not_the_dialled_address(tmp_path: Path) -> None:
    context = certificate(tmp_path, "DNS:clips.example")
    code = """
import asyncio, sys
from serverless.network.fetch_guard import FetchRefused
from serverless.references.url_fetch import fetch
from dataclasses import replace
from tests.helpers.loopback import LOOPBACK
guard = replace(LOOPBACK, resolver=lambda host, port: ["127.0.0.1"])
for host in ("clips.example", "clips.example.", "other.example", "127.0.0.1"):
    url = f"https://{host}:{sys.argv[1]}/"
    try:
        print(asyncio.run(fetch(url, guard, timeout_seconds=600, max_bytes=100, max_redirects=0)).decode())
    except FetchRefused as refusal:
        print(refusal)
"""
    with Server(lambda connection: connection.answer(b"arrived"), tls=context) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, str(server.port)],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "cert.pem")},  # read once, when aiohttp is imported
            check=True,
            capture_output=True,
            text=True,
        )
    refused = "TLS failed, or the certificate is not valid"
    assert done.stdout.splitlines() == ["arrived", "arrived", refused, refused]


def test_a_failure_tells_the_client_nothing_and_the_log_no_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Server(lambda connection: connection.answer(b"", "403 Forbidden")) as server:
        url = f"{server.url}/private/path.wav?token=very-secret"
        with pytest.raises(ReferenceAudioError) as failure:
            asyncio.run(
                resolve([ReferenceSource("references[3]", url=url)], Settings(), timeout_seconds=5, guard=LOOPBACK)
            )
        port = str(server.port)
    told = f"{failure.value.message} {failure.value.hint}"
    assert failure.value.message == "references[3] could not be fetched."
    assert "references[3]: the URL is refused: the server answered 403" in caplog.text
    for secret in ("127.0.0.1", port, "path.wav", "very-secret"):
        assert secret not in caplog.text
        assert secret not in told
    assert "403" not in told
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__
