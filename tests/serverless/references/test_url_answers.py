"""Whatever else a server answers, HTTP or not: a clip or a refusal, which tells nobody an address."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress

import aiohttp
import pytest

from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchRefused
from serverless.references.url_fetch import fetch
from tests.helpers.clips import resolve
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE
from tests.helpers.url_fetches import CAP, get


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
        code = "from tests.serverless.references.test_url_answers import answers_end; answers_end(slowly=False)"
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
