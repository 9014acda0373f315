"""A server that lies to the client: odd JSON, escape sequences, parts out of order."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serverless.client import __main__ as client
from serverless.client.errors import MAX_WORDS, printable
from tests.helpers.client_answers import AUDIO, WAV, answered, lines, one_sentence
from tests.helpers.loopback import Connection, Server

OBJECT = "not an object"


def polled(answers: dict[str, Any]) -> Callable[[Connection], None]:
    """A queue's API that gives the same answer for each of its paths."""

    def script(connection: Connection) -> None:
        answer = answers[connection.path.split("/")[2]]
        connection.answer(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    return script


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "before its last item"),
        (b"\n \n\n", "before its last item"),
        (b"null\n", OBJECT),
        (b"5\n", OBJECT),
        (b'"text"\n', OBJECT),
        (b"[1]\n", OBJECT),
        (b"{{{\n", OBJECT),
        (b"\xff\xfe\n", OBJECT),
        (b"[" * 100_000 + b"\n", OBJECT),
        (b'{"seed": ' + b"9" * 5000 + b"}\n", OBJECT),
        (lines({**AUDIO, "is_final": False}), "before its last item"),
        (lines({"is_final": True}), "no audio"),
        (lines({**AUDIO, "audio_base64": 5}), "not base64"),
        (lines({**AUDIO, "audio_base64": ["QUJD"]}), "not base64"),
        (lines({**AUDIO, "audio_base64": "QUJ\u00e9"}), "not base64"),
        (lines({**AUDIO, "audio_base64": "!!!!"}), "not base64"),
        (lines({"audio_url": 5, "is_final": True}), "link"),
        (lines({"audio_url": "http://a/" + "x" * 9000, "is_final": True}), "link"),
        (lines({**AUDIO, "index": "0"}), "number"),
        (lines({**AUDIO, "index": -1}), "number"),
        (lines({**AUDIO, "index": True}), "number"),
        (lines({**AUDIO, "index": 0.0}), "number"),
        (lines({**AUDIO, "index": 1}), "Part 0"),
        (lines({**AUDIO, "index": 0, "is_final": False}, {**AUDIO, "index": 2}), "Part 1"),
        (lines({"error": {"message": "odd"}}), "error without words"),
        (lines({"error": True}), "True"),
        (lines({"error": "bad\x1b[2J\x1b]0;owned\x07\r\n\u202eevil", "hint": ["x"]}), "bad"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_an_odd_stream_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], body: bytes, words: str
) -> None:
    assert words in answered(tmp_path, capsys, lambda connection: connection.answer(body))


@pytest.mark.parametrize(
    "around",
    [
        {"timings": "x", "warnings": "abc", "duration_seconds": "long", "seed": {}, "finish_reason": ["stop"]},
        {"timings": {"real_time_factor": None}, "warnings": [5, None, {}, ["x"]], "duration_seconds": 1e999},
        {"timings": {"real_time_factor": "1"}, "warnings": {"a": 1}, "seed": 10**300, "progress": 7},
        {"progress": {"share": "half", "audio_seconds": []}, "audio_format": 5, "state": {"x": 1}},
        {"warnings": ["\x1b[31mred\x1b[0m \u202e\x07\n"] * 10_00, "finish_reason": "\x1b]8;;http://x\x07stop\x9b2J"},
    ],
    ids=str,
)
def test_odd_facts_around_good_audio_do_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, around: dict[str, Any]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    body = lines({**AUDIO, **around})
    with Server(lambda connection: connection.answer(body)) as server:
        assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
    captured = capsys.readouterr()
    assert (tmp_path / "x.wav").read_bytes() == WAV
    assert all(line.isprintable() for line in captured.out.splitlines())
    assert captured.err.replace("\r\x1b[K", "").isprintable()
    assert len(captured.out.splitlines()) <= 21


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"id": 5}', b'{"id": "../x"}']
)
def test_an_odd_answer_to_run_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    said, seen = of_the_queue(tmp_path, capsys, {"run": answer})
    assert "not a JSON object" in said or "did not accept" in said
    assert seen == ["/e/run"]


def of_the_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: dict[str, Any], mode: str = "queue"
) -> tuple[str, list[str]]:
    """What the client says, where it must fail, and the paths that it asked for."""
    with Server(polled({"run": {"id": "j"}, "cancel": {}, **answers})) as server:
        arguments = ["--endpoint", "e", "--api", server.url, "--mode", mode, "Hello.", "-o", str(tmp_path / "x.wav")]
        status = client.main(arguments)
        paths = [connection.path for connection in server.seen]
    assert list(tmp_path.iterdir()) == []
    return one_sentence(status, capsys), paths


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 5},
        {"status": None},
        {"status": ["COMPLETED"]},
        {"status": {"IN_QUEUE": 1}},
        {"status": "\x1b[2JDONE\u202e", "error": ["x"]},
        {"status": "COMPLETED", "output": "text"},
        {"status": "COMPLETED", "output": 5},
        {"status": "COMPLETED", "output": [1, None]},
        {"status": "COMPLETED", "output": [[]]},
        {"status": "COMPLETED", "stream": "text", "output": None},
        {"status": "COMPLETED", "stream": {"a": 1}, "output": None},
        {"status": "COMPLETED", "stream": [5], "output": None},
        {"status": "COMPLETED", "stream": [{"output": 5}], "output": None},
        {"status": "COMPLETED", "stream": [{}], "output": None},
        {"status": "FAILED", "error": {"message": "x"}},
        {"status": "FAILED", "error": "a\x1b[31m\nb" * 1000},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["queue", "stream"])
def test_an_odd_answer_of_the_queue_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: dict[str, Any], mode: str
) -> None:
    of_the_queue(tmp_path, capsys, {"status": answer, "stream": answer}, mode)


def test_a_part_that_is_sent_again_is_in_the_file_once(tmp_path: Path) -> None:
    first = {"index": 0, "is_final": False, "audio_base64": base64.b64encode(WAV[:100]).decode(), "audio_format": "wav"}
    last = {"index": 1, "is_final": True, "audio_base64": base64.b64encode(WAV[100:]).decode(), "audio_format": "wav"}
    after = {"index": 2, "audio_base64": "QUJD"}
    body = lines(first, {**first, "audio_base64": "QUJD"}, last, last, after)
    with Server(lambda connection: connection.answer(body)) as server:
        assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
    assert (tmp_path / "x.wav").read_bytes() == WAV


def test_what_a_server_says_becomes_one_plain_line() -> None:
    said = printable("one\x1b[1;31mtwo\x1b]0;title\x07\r\nthree\u202e\u2066\u200b\x00\x9b\ud800 \u00e9 four")
    assert said.isprintable()
    assert said.replace(" ", "") == "onetwothree\u00e9four"
    assert len(printable("x" * 10**6)) == MAX_WORDS + 3
    assert printable(None) == printable({"a": 1}) == printable([1]) == ""
