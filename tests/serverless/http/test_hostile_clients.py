"""Clients that send slowly, send too much, never read, or send what is no HTTP: over real sockets."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import requests

from serverless.config.settings import Settings
from serverless.http.body import JsonBodies, parse
from serverless.http.errors import HttpProblem
from serverless.http_server import warn_if_open
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess
from tests.helpers.raw_http import connected, post, read_all, read_head
from tests.serverless.http.test_process import free_ports, status
from tests.serverless.http.test_traffic import LONG, metric

STREAM = json.dumps({"input": {**LONG, "stream": True}}).encode()
SMALL_BUFFER = 4096
END_OF_CHUNKS = b"0\r\n\r\n"


def pings(server: Running) -> bool:
    return requests.get(f"{server.url}/ping", timeout=PATIENCE).status_code == 200


# -- clients that do not read -----------------------------------------------------------------------------------------


def test_a_client_that_takes_nothing_is_cut_off_and_its_place_given_back(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(slots=1, max_queued_requests=0, max_stalled_seconds=0.2)
    with caplog.at_level(logging.INFO), connected(server.url, receive_buffer=SMALL_BUFFER) as raw:
        raw.sendall(post("/generate", STREAM))
        wait_until(lambda: server.service.in_flight == 1)
        assert server.generate({"script": "One too many."}).status_code == 503
        wait_until(lambda: "was cut off" in caplog.text)
        wait_until(server.idle)
        assert not read_all(raw).endswith(END_OF_CHUNKS)
    assert server.service.unread.total == 0
    assert server.generate({"script": "Now it fits.", "max_new_tokens": 20}).status_code == 200
    assert "Traceback" not in caplog.text


def test_few_descriptors_are_enough_for_pings_and_sigterm_ends_a_client_that_does_not_read(tmp_path: Path) -> None:
    port, port_health = free_ports(2)
    variables = {
        "PORT": str(port),
        "PORT_HEALTH": str(port_health),
        "HIGGS_AUDIO_HOST": "127.0.0.1",
        "HIGGS_AUDIO_MAX_STALLED_SECONDS": "1",
        "HIGGS_AUDIO_MAX_HEADER_SECONDS": "600",
    }
    half: list[socket.socket] = []
    with ModuleProcess("tests.helpers.few_descriptors", tmp_path / "log", **variables) as server:

        def ready() -> bool:
            server.assert_runs()
            return status(port) == 200

        wait_until(ready)
        for number in range(460):
            raw = socket.create_connection(("127.0.0.1", port if number % 2 else port_health), timeout=PATIENCE)
            raw.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            half.append(raw)
        for _ in range(5):
            assert (status(port), status(port_health)) == (200, 200)
        for raw in half:
            raw.close()
        with connected(f"http://127.0.0.1:{port}", receive_buffer=SMALL_BUFFER) as silent:
            silent.sendall(post("/generate", STREAM))
            server.sigterm()
            assert server.wait_for_exit() == 0
    assert "Traceback" not in server.log
    assert "HIGGS_AUDIO_API_KEY" not in server.log


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_job_that_has_no_place_is_refused_before_its_body_is_read(serve: Any) -> None:
    server = serve(slots=1, max_queued_requests=0)
    waiting = post("/generate", b"", "Expect: 100-continue", length=1000)
    with connected(server.url) as first:
        first.sendall(waiting)
        assert read_head(first).startswith(b"HTTP/1.1 100 ")
    wait_until(lambda: metric(server, 'higgs_errors_total{code="cancelled"}') == 1)
    with requests.post(f"{server.url}/generate", data=STREAM, headers=_JSON, stream=True, timeout=PATIENCE):
        wait_until(lambda: server.service.in_flight == 1)
        with connected(server.url) as refused:
            refused.sendall(waiting)
            answer = read_head(refused)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: " in answer.lower()
    wait_until(server.idle)


_JSON = {"Content-Type": "application/json"}


def test_all_bodies_together_have_a_bound_and_the_next_one_is_refused_unread(serve: Any) -> None:
    server = serve(max_request_bytes=100_000, max_bodies_bytes=150_000)
    budget = server.app.state.bodies.budget
    with connected(server.url) as first:
        first.sendall(post("/generate", b"x" * 90_000, length=100_000))
        wait_until(lambda: budget.total == 90_000)
        with connected(server.url) as stated:
            stated.sendall(post("/generate", b"", length=70_000))
            assert read_head(stated).startswith(b"HTTP/1.1 503 ")
        with connected(server.url) as chunked:
            head = post("/generate", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            chunked.sendall(head + b"%x\r\n" % 70_000 + b"x" * 70_000 + b"\r\n")
            assert read_head(chunked).startswith(b"HTTP/1.1 503 ")
        assert server.generate({"script": "A small one fits.", "max_new_tokens": 20}).status_code == 200
    wait_until(lambda: budget.total == 0)


def test_an_upload_that_breaks_off_is_cancelled_with_one_line(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    with caplog.at_level(logging.INFO):
        with connected(server.url) as raw:
            raw.sendall(post("/generate", b'{"input": {"script": "Xylophone', length=1000))
            wait_until(lambda: server.app.state.bodies.budget.total > 0)
        wait_until(lambda: metric(server, 'higgs_errors_total{code="cancelled"}') == 1)
    assert metric(server, 'higgs_errors_total{code="internal_error"}') == 0
    lines = [record.getMessage() for record in caplog.records if "cancelled" in record.getMessage()]
    assert lines == ["request refused: status=499 code=cancelled method=POST route=/generate path_length=9"]
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("slow", ["in all", "from the start"])
def test_a_body_that_comes_too_slowly_is_given_up(serve: Any, slow: str) -> None:
    server = serve(max_body_seconds=0.2 if slow == "in all" else 600)
    if slow == "from the start":
        server.app.state.bodies = JsonBodies(server.service.settings, grace_seconds=0.2)
    with connected(server.url) as raw:
        raw.sendall(post("/generate", b"{", length=1000))
        answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer


def test_a_body_over_the_limit_is_refused_before_it_comes(serve: Any) -> None:
    server = serve()
    limit = server.service.settings.max_request_bytes
    with connected(server.url) as raw:
        raw.sendall(post("/generate", b"", "Expect: 100-continue", length=limit + 1))
        assert read_head(raw).startswith(b"HTTP/1.1 413 ")


def test_others_are_served_while_a_body_is_parsed(serve: Any) -> None:
    server = serve()
    go_on = threading.Event()
    server.app.state.bodies._thread.submit(go_on.wait, PATIENCE)
    answers: Future[requests.Response] = Future()
    body = {"script": "It waits.", "max_new_tokens": 20}
    client = threading.Thread(target=lambda: answers.set_result(server.generate(body)))
    client.start()
    try:
        wait_until(lambda: server.app.state.bodies.budget.total > 0)
        assert pings(server)
        assert not answers.done()
    finally:
        go_on.set()
        client.join(PATIENCE)
    assert answers.result(PATIENCE).status_code == 200


def joined(part: bytes, count: int) -> bytes:
    return b"[" + b",".join([part] * count) + b"]"


MANY = {
    "turns": b'{"input":{"dialogue":' + joined(b'{"speaker":"A","text":"x"}', 60_000) + b"}}",
    "empty lists": b'{"input":{"script":' + joined(b"[]", 90_000) + b"}}",
    "speakers": b'{"input":{"speakers":{' + b",".join(b'"s%d":{}' % n for n in range(100_000)) + b"}}}",
    "unknown fields": b"{" + b",".join(b'"k%d":1' % n for n in range(140_000)) + b"}",
    "numbers": b'{"x":' + joined(b"1", 260_000) + b"}",
    "open lists": b"[" * 260_000,
    "open objects": b'{"a":' * 140_000,
    "escapes": b'{"x":"' + b"\\u00e9" * 260_000 + b'"}',
}


@pytest.mark.parametrize("name", MANY)
def test_a_body_of_very_many_values_is_refused_before_one_is_built(serve: Any, name: str) -> None:
    answer = requests.post(f"{serve().url}/generate", data=MANY[name], headers=_JSON, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "more values, keys or escapes" in answer.json()["error"]


def test_as_many_values_as_a_script_can_have_are_read() -> None:
    turns = joined(b'{"speaker": "A", "text": "x"}', 10_000)
    most = 20_000 + 5 * Settings().max_script_characters
    assert len(parse(bytearray(b'{"dialogue": ' + turns + b"}"), most)["dialogue"]) == 10_000
    with pytest.raises(HttpProblem, match="more values"):
        parse(bytearray(b'{"dialogue": ' + turns + b"}"), 1000)


# -- what is no HTTP --------------------------------------------------------------------------------------------------

HOST = b"Host: x\r\n"
GET = b"GET /ping HTTP/1.1\r\n"
SPEECH = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WRONG = {
    "large header": GET + HOST + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
    "large target": b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": GET + HOST + b"X: y\r\n" * 10_000 + b"\r\n",
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + b"Host: y\r\n\r\n",
    "two lengths": SPEECH + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": SPEECH + b"Content-Length: 2\r\n" + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and length": SPEECH + CHUNKED + b"Content-Length: 2\r\n\r\n{}",
    "chunks twice": SPEECH + CHUNKED * 2 + b"\r\n0\r\n\r\n",
    "chunks last but one": SPEECH + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks misspelt": SPEECH + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks behind a tab": SPEECH + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": SPEECH + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "negative length": SPEECH + b"Content-Length: -1\r\n\r\n",
    "length with a sign": SPEECH + b"Content-Length: +2\r\n\r\n{}",
    "hexadecimal length": SPEECH + b"Content-Length: 0x2\r\n\r\n{}",
    "length of many digits": SPEECH + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "length in other digits": SPEECH + "Content-Length: ٢\r\n\r\n{}".encode(),
    "chunk of no size": SPEECH + CHUNKED + b"\r\nxyz\r\n",
    "chunk of a huge size": SPEECH + CHUNKED + b"\r\n" + b"f" * 30 + b"\r\n",
    "chunk longer than it says": SPEECH + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n",
    "NUL in a header": GET + HOST + b"X: a\x00b\r\n\r\n",
    "NUL in the target": b"GET /pi\x00ng HTTP/1.1\r\n" + HOST + b"\r\n",
    "NULs": b"\x00" * 1000 + b"\r\n\r\n",
    "bare newline in a header": GET + HOST + b"X: a\rb: c\r\n\r\n",
    "letters in the method": b"G\xc3\x84T /ping HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"BREW /ping HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /ping HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute target": b"GET http://elsewhere.example/ping HTTP/1.1\r\n" + HOST + b"\r\n",
    "target of another scheme": b"GET file:///etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /ping\r\n\r\n",
    "version 9": b"GET /ping HTTP/9.9\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n",
    "percent": b"GET /playground/%00%ff%2e%2e%2f HTTP/1.1\r\n" + HOST + b"\r\n",
    "a list as the model": SPEECH.replace(b"/generate", b"/v1/audio/speech")
    + b"Content-Length: 26\r\n\r\n"
    + b'{"input":"Hi","model":[1]}',
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_request_gets_a_client_error_or_a_closed_connection(
    server: Running, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with connected(server.url) as raw:
        try:
            raw.sendall(WRONG[name])
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has hung up already
        answer = read_all(raw)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:100]
    assert pings(server)
    assert "Traceback" not in caplog.text
    assert "elsewhere" not in caplog.text


def test_requests_in_one_piece_are_answered_in_their_order(server: Running) -> None:
    with connected(server.url) as raw:
        raw.sendall((GET + HOST + b"\r\n") * 50 + b"GET /nope HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        answers = read_all(raw).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * 50 + [b"404"]


def test_http_1_0_is_answered_and_closed(server: Running) -> None:
    with connected(server.url) as raw:
        raw.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        assert b" 200 " in read_all(raw).split(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/", "/ping", "/ready"])
def test_head_and_options_are_answered_without_a_body(server: Running, path: str) -> None:
    head = requests.head(f"{server.url}{path}", timeout=PATIENCE)
    assert (head.status_code, head.content) == (200, b"")
    options = requests.options(f"{server.url}{path}", timeout=PATIENCE)
    assert (options.status_code, options.content) == (204, b"")
    assert "GET" in options.headers["Allow"]


# -- what the log says ------------------------------------------------------------------------------------------------


def test_a_refused_request_leaves_one_line_without_the_clients_words(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        requests.get(f"{server.url}/nope?secret=Xylophone", timeout=PATIENCE)
        requests.get(f"{server.url}/a%0Ajob finished: Xylophone", timeout=PATIENCE)
        requests.post(f"{server.url}/generate", data=b'{"Xylophone', headers=_JSON, timeout=PATIENCE)
        for body in ({"model": "Xylophone"}, {"input": " "}, {"temperature": "Xylophone"}, {"Xylophone.Xylophone": 5}):
            speech = {"input": "Xylophone", "voice": {"id": "Xylophone"}, **body}
            assert requests.post(f"{server.url}/v1/audio/speech", json=speech, timeout=PATIENCE).status_code >= 400
        requests.get(f"{server.url}/v1/models/Xylophone", timeout=PATIENCE)
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    speech_route = "method=POST route=/v1/audio/speech path_length=16"
    assert [re.sub(r" seconds=.*", "", line) for line in lines] == [
        "request refused: status=404 code=not_found method=GET route=none path_length=5",
        "request refused: status=404 code=not_found method=GET route=none path_length=25",
        "request refused: status=400 code=invalid_request method=POST route=/generate path_length=9",
        f"request refused: status=404 code=model_not_found {speech_route} field=model",
        f"request refused: status=400 code=invalid_request {speech_route} field=input",
        "job refused: code=invalid_request field=temperature",
        "job refused: code=invalid_request field=voice",
        "request refused: status=404 code=model_not_found method=GET route=/v1/models/{model:path} path_length=20"
        " field=model",
    ]
    assert "Xylophone" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({}, True),
        ({"host": "::"}, True),
        ({"host": "worker.example"}, True),
        ({"host": "127.0.0.2"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"api_key": "secret"}, False),
    ],
)
def test_a_server_that_anybody_may_use_says_so_at_boot(
    caplog: pytest.LogCaptureFixture, fields: dict[str, Any], warned: bool
) -> None:
    warn_if_open(Settings(**fields))
    assert ("HIGGS_AUDIO_API_KEY" in caplog.text) is warned
    assert len(caplog.records) == warned
