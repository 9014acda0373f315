"""A server that sends the client too much, too slowly, compressed, or elsewhere."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import pytest

from serverless.client import link
from serverless.client.link import Answer
from tests.helpers.client_answers import STREAM, answered, lines
from tests.helpers.loopback import Connection

ENDLESS = {
    "a line": (STREAM, b"x" * 50_000),
    "empty lines": (STREAM, b"\n" * 50_000),
    "small items": (STREAM, b'{"progress": {}}\n' * 4000),
    "audio": (STREAM, lines({"audio_base64": base64.b64encode(bytes(30_000)).decode()})),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 4000 + b"\r\n"),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "a chunk's extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 50_000),
    "an error": (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 50_000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_has_no_end_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    start, again = ENDLESS[kind]

    def script(connection: Connection) -> None:
        connection.send(start)
        while True:
            connection.send(again)

    answered(tmp_path, capsys, script)


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 500 No\r\n\r\n", STREAM, STREAM + b'{"progress": {}}\n'], ids=len
)
def test_what_comes_drop_by_drop_is_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(link, "LINE_SECONDS", 0.3)

    def script(connection: Connection) -> None:
        connection.send(start)
        connection.drip(b"x")

    answered(tmp_path, capsys, script)


def test_lines_that_go_on_for_ever_are_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "STREAM_SECONDS", 0.3)

    def script(connection: Connection) -> None:
        connection.send(STREAM)
        connection.drip(b'{"progress": {}}\n')

    assert "broke off" in answered(tmp_path, capsys, script)


def test_a_compressed_answer_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    said = answered(tmp_path, capsys, lambda connection: connection.answer(bomb, Content_Encoding="gzip"))
    assert "compressed" in said


@pytest.mark.parametrize("location", ["/elsewhere", "http://127.0.0.1:1/", "file:///etc/passwd"])
def test_no_redirect_takes_the_key_along(tmp_path: Path, capsys: pytest.CaptureFixture[str], location: str) -> None:
    assert "redirect" in answered(tmp_path, capsys, lambda connection: connection.redirect(location, "307 Moved"))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("99999999", 30),
        ("9" * 5000, 30),
        ("-1", None),
        ("1e9", None),
        ("nan", None),
        ("\u0663", None),
    ],
)
def test_a_server_cannot_make_the_client_wait_for_ever(said: str, seconds: float | None) -> None:
    assert Answer(503, {"Retry-After": said}, b"").retry_after == seconds
