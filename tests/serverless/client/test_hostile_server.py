"""A server that means harm to the client: odd JSON, escape sequences, endless answers, links to anywhere, lies."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from higgs_core.audio import wav_header
from serverless.client import __main__ as client
from serverless.client import link, output, transports
from serverless.client.download import download
from serverless.client.errors import MAX_WORDS, ClientError, printable
from serverless.client.link import Answer
from tests.helpers.loopback import Connection, Server
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE, wait_until

WAV = wav_header("pcm_16", 480) + bytes(480)
AUDIO = {"audio_base64": base64.b64encode(WAV).decode(), "audio_format": "wav", "is_final": True}
OBJECT = "not an object"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "POLL_SECONDS", (0.01,))
    monkeypatch.setattr(link, "WAIT_SECONDS", (0.01,) * 5)
    monkeypatch.setattr(link, "MAX_ANSWER_BYTES", 300_000)
    monkeypatch.setattr(link, "MAX_STREAM_BYTES", 1_000_000)
    monkeypatch.setattr(link, "MAX_LINES", 10_000)
    monkeypatch.setattr(output, "MAX_FILE_BYTES", 100_000)
    monkeypatch.setenv("RUNPOD_API_KEY", "rp_secret")


def lines(*items: Any) -> bytes:
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items)


def answered(tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Callable[[Connection], None]) -> str:
    """What the HTTP door's client says of a server, where it must fail."""
    with Server(script) as server:
        status = client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")])
    assert list(tmp_path.iterdir()) == []
    return one_sentence(status, capsys)


def one_sentence(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.rstrip("\n").isprintable()
    return captured.err


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


# -- Without an end ---------------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
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


def test_what_a_server_says_becomes_one_plain_line() -> None:
    said = printable("one\x1b[1;31mtwo\x1b]0;title\x07\r\nthree\u202e\u2066\u200b\x00\x9b\ud800 \u00e9 four")
    assert said.isprintable()
    assert said.replace(" ", "") == "onetwothree\u00e9four"
    assert len(printable("x" * 10**6)) == MAX_WORDS + 3
    assert printable(None) == printable({"a": 1}) == printable([1]) == ""


# -- Links ------------------------------------------------------------------------------------------------------------

LINKS = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "//127.0.0.1/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://user:pass@127.0.0.1/",
    "http://[fe80::1]/",
    "http://0.0.0.0/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1:99999/",
    "not a link\x1b[2J",
]


@pytest.mark.parametrize("address", LINKS)
def test_a_link_to_anywhere_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    body = lines({"audio_url": address, "is_final": True})
    assert "cannot be downloaded" in answered(tmp_path, capsys, lambda connection: connection.answer(body))


@pytest.mark.parametrize("target", LINKS[:5])
def test_a_link_that_redirects_to_anywhere_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    with Server(lambda connection: connection.redirect(target)) as bucket:
        body = lines({"audio_url": bucket.url, "is_final": True})
        assert "cannot be downloaded" in answered(tmp_path, capsys, lambda connection: connection.answer(body))
        assert len(bucket.seen) <= 4


@pytest.mark.parametrize("endpoint", ["https://1.1.1.1/v2/e", "https://nowhere.invalid/v2", "http://[::bad"])
def test_a_public_server_cannot_name_a_private_address(endpoint: str) -> None:
    with Server(lambda connection: connection.answer(WAV)) as inside:
        with pytest.raises(ClientError, match="not public"):
            asyncio.run(download(f"{inside.url}/x.wav", endpoint=endpoint))
        assert inside.seen == []


def test_a_link_beside_streamed_audio_adds_nothing_to_the_file(tmp_path: Path) -> None:
    with Server(lambda connection: connection.answer(b"more")) as bucket:
        body = lines({**AUDIO, "audio_url": f"{bucket.url}/x.wav"})
        with Server(lambda connection: connection.answer(body)) as server:
            assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
        assert bucket.seen == []
    assert (tmp_path / "x.wav").read_bytes() == WAV


@pytest.mark.parametrize(
    "address", ["", "localhost", "ftp://a", "http://", "http://[::1", "http://a:b", "http://u:p@a", "http://a:99999"]
)
def test_an_address_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert "--url" in one_sentence(client.main(["--url", address, "Hello."]), capsys)


# -- The file ---------------------------------------------------------------------------------------------------------


def saved(path: Path, meanwhile: Callable[[], object] = lambda: None) -> int:
    """The exit status of a job whose audio is to be at `path`; `meanwhile` happens while it is generated."""

    def script(connection: Connection) -> None:
        meanwhile()
        connection.answer(lines(AUDIO))

    with Server(script) as server:
        return client.main(["--url", server.url, "Hello.", "-o", str(path)])


def test_links_that_wait_for_the_file_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("x.wav", "x.wav.part", ".x.wav.part"):
        (tmp_path / name).symlink_to(precious)
    assert saved(tmp_path / "x.wav") == 0
    assert precious.read_text() == "precious"
    assert (tmp_path / "x.wav").read_bytes() == WAV
    assert not (tmp_path / "x.wav").is_symlink()


def test_a_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("old")
    assert saved(tmp_path / "x.wav") == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [WAV]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_that_appears_meanwhile_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str | None
) -> None:
    path = tmp_path / "x.wav"
    if old is not None:
        path.write_text(old)
    assert saved(path, lambda: path.write_text("from someone else")) == 0
    assert path.read_text() == "from someone else"
    assert (tmp_path / "x-1.wav").read_bytes() == WAV
    assert "x-1.wav" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [".", "missing/x.wav", "pipe", "nul\0.wav"])
def test_a_place_where_no_file_can_be_is_said_before_the_job_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Server(lambda connection: connection.answer(lines(AUDIO))) as server:
        status = client.main(["--url", server.url, "Hello.", "-o", f"{tmp_path}/{name}"])
        assert server.seen == []
    one_sentence(status, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("length", [4, 12, 40, 44, 47])
def test_a_wav_header_that_ends_early_is_kept_as_it_is(tmp_path: Path, length: int) -> None:
    audio = wav_header("pcm_16", None)[:length]
    body = lines({**AUDIO, "audio_base64": base64.b64encode(audio).decode()})
    with Server(lambda connection: connection.answer(body)) as server:
        assert client.main(["--url", server.url, "Hello.", "-o", str(tmp_path / "x.wav")]) == 0
    assert (tmp_path / "x.wav").stat().st_size == len(audio)


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------

SILENT = b"silent"
PHASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "sending": (["--endpoint", "e"], {"run": SILENT}),
    "waiting": (["--endpoint", "e"], {"run": {"id": "j"}, "status": {"status": "IN_PROGRESS"}, "cancel": {}}),
    "asking": (["--endpoint", "e"], {"run": {"id": "j"}, "status": SILENT, "cancel": {}}),
    "streaming": (["--url"], {"generate": SILENT}),
    "downloading": (
        ["--endpoint", "e"],
        {
            "run": {"id": "j"},
            "status": {"status": "COMPLETED", "output": {"audio_url": "HERE/x/bucket"}},
            "bucket": SILENT,
        },
    ),
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_cleanly_in_each_phase(tmp_path: Path, phase: str) -> None:
    """In a process of its own, as the signal goes to the whole process."""
    arguments, answers = PHASES[phase]
    last = list(answers)[1] if "cancel" in answers else list(answers)[-1]

    def script(connection: Connection) -> None:
        kind = connection.path.split("/")[2 if arguments[0] == "--endpoint" or "bucket" in connection.path else 1]
        if answers[kind] is SILENT:
            if kind == "generate":
                connection.send(STREAM + lines({"index": 0, "audio_base64": base64.b64encode(WAV).decode()}))
            connection.sock.recv(1)
            return
        connection.answer(json.dumps(answers[kind]).replace("HERE", server.url).encode())

    with Server(script) as server:
        where = [*arguments, server.url] if arguments == ["--url"] else [*arguments, "--api", server.url]
        process = subprocess.Popen(
            [sys.executable, "-m", "serverless.client", *where, "Hello.", "-o", str(tmp_path / "x.wav")],
            cwd=ROOT,
            env={**os.environ, "RUNPOD_API_KEY": "rp_secret"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What starts the tests in the background may ignore the signal, and a process inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: any(last in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        cancelled = any("/cancel/j" in connection.path for connection in server.seen)
    waits_for = "Waiting for the endpoint to cancel the job; a second Ctrl-C ends at once.\n" if cancelled else ""
    assert (process.returncode, out, err) == (130, "", f"{waits_for}Cancelled.\n")
    assert list(tmp_path.iterdir()) == []
    assert cancelled == ("cancel" in answers)


def test_a_second_ctrl_c_ends_at_once_and_leaves_no_file(tmp_path: Path) -> None:
    """While the endpoint does not answer to the cancellation."""

    def script(connection: Connection) -> None:
        kind = connection.path.split("/")[2]
        if kind == "cancel":
            connection.sock.recv(1)
            return
        connection.answer(b'{"id": "j"}' if kind == "run" else b'{"status": "IN_PROGRESS"}')

    with Server(script) as server:
        where = ["--endpoint", "e", "--api", server.url, "-o", str(tmp_path / "x.wav")]
        process = subprocess.Popen(
            [sys.executable, "-m", "serverless.client", *where, "Hello."],
            cwd=ROOT,
            env={**os.environ, "RUNPOD_API_KEY": "rp_secret"},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: any("/status/" in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            wait_until(lambda: any("/cancel/" in connection.path for connection in server.seen))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Cancelled" not in err
    assert list(tmp_path.iterdir()) == []
