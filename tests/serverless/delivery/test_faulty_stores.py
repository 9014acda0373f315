"""A store that is down, slow, refuses, redirects or never stops: the upload ends, and says why in a word."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from higgs_core.errors import DeliveryError
from serverless.delivery import upload as upload_module
from serverless.delivery.upload import ATTEMPTS, FIRST_PAUSE_SECONDS
from tests.helpers.loopback import Connection, Server, trusting
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.stores import bucket, put, read_body, refusal, signature_of_put

AUDIO = bytes(range(256)) * 4_000  # 1 MB: more than what fits into the buffers of a connection at once
Script = Callable[[Connection], None]


def reason(url: str, **options: object) -> str:
    """What the operator reads in the brackets of the sentence after an upload that failed."""
    with pytest.raises(DeliveryError) as failure:
        put(bucket(url, **options), AUDIO)  # type: ignore[arg-type]
    start, end = "The result could not be uploaded to S3 (", ")."
    assert failure.value.message.startswith(start)
    assert failure.value.message.endswith(end)
    return failure.value.message[len(start) : -len(end)]


def hard_close(connection: Connection) -> None:
    """With a reset, which also throws away what was not read."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sock.close()


# -- Redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("location", ["/again", "http://127.0.0.2:{port}/there", "//127.0.0.2:{port}/", "", "\\"])
def test_a_redirect_is_never_followed(status: str, location: str) -> None:
    with Server(lambda connection: connection.answer(b""), address="127.0.0.2") as elsewhere:
        there = location.format(port=elsewhere.port)
        with Server(lambda connection: connection.redirect(there, status)) as server:
            assert reason(server.url) == f"a redirect, {status[:3]}"
            assert len(server.seen) == 1
        assert elsewhere.seen == []


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary", "400 Bad Request"])
@pytest.mark.parametrize("told_in", ["header", "body"])
def test_a_region_that_the_store_names_is_signed_for_once_at_the_same_address(status: str, told_in: str) -> None:
    def script(connection: Connection) -> None:
        body = read_body(connection)
        if "/eu-west-3/s3/" in connection.headers["authorization"]:
            assert body == AUDIO
            connection.answer(b"")
        elif told_in == "header":
            connection.answer(b"", status, X_Amz_Bucket_Region="eu-west-3", Location="http://127.0.0.2:1/")
        else:
            connection.answer(b"<Error><Code>Wrong</Code><Region>eu-west-3</Region></Error>", status)

    with Server(script) as server:
        ours = bucket(server.url)
        link = put(ours, AUDIO).url
        assert len(server.seen) == 2
        assert "%2Feu-west-3%2Fs3%2F" in link
        assert link.startswith(server.url)
        given, expected = signature_of_put(server.seen[1])
        assert given == expected
        put(ours, AUDIO)
        assert len(server.seen) == 3  # the region is known now


def test_a_redirect_by_the_headers_alone_is_understood_although_the_body_was_never_read() -> None:
    def script(connection: Connection) -> None:
        if "/eu-west-3/" in connection.headers["authorization"]:
            read_body(connection)
            connection.answer(b"")
        else:
            connection.answer(b"", "307 Temporary", X_Amz_Bucket_Region="eu-west-3")
            hard_close(connection)

    with Server(script) as server:
        assert put(bucket(server.url), AUDIO * 5).url.startswith(server.url)
        assert len(server.seen) == 2


def test_a_store_that_names_another_region_each_time_is_asked_twice() -> None:
    def script(connection: Connection) -> None:
        connection.answer(b"", "301 Moved", X_Amz_Bucket_Region=f"eu-west-{len(server.seen)}")

    with Server(script) as server:
        assert reason(server.url) == "a redirect, 301"
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    "region", ["us-east-1", "127.0.0.2", "evil.example/x", "eu-west-1.evil.example", "\xff", "a" * 5000]
)
def test_what_is_no_other_region_is_not_tried(region: str) -> None:
    script = refusal("301 Moved", "PermanentRedirect", X_Amz_Bucket_Region=region)
    with Server(script) as server:
        assert reason(server.url) == "PermanentRedirect"
        assert len(server.seen) == 1


# -- Refusals and failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [
        ("400 Bad Request", "InvalidRequest", 1),
        ("400 Bad Request", "RequestTimeout", ATTEMPTS),
        ("403 Forbidden", "AccessDenied", 1),
        ("404 Not Found", "NoSuchBucket", 1),
        ("411 Length Required", "MissingContentLength", 1),
        ("429 Too Many Requests", "TooManyRequests", ATTEMPTS),
        ("500 Internal", "InternalError", ATTEMPTS),
        ("503 Unavailable", "SlowDown", ATTEMPTS),
        ("504 Timeout", "GatewayTimeout", ATTEMPTS),
    ],
)
def test_only_what_may_pass_is_tried_again(status: str, code: str, attempts: int) -> None:
    with Server(refusal(status, code)) as server:
        assert reason(server.url) == code
        assert len(server.seen) == attempts


@pytest.mark.parametrize("code", ["", "very secret words", "<script>", "x" * 41, "\u00e9"])
def test_a_code_that_is_none_is_replaced_by_the_status(code: str) -> None:
    with Server(refusal("403 Forbidden", code)) as server:
        assert reason(server.url) == "status 403"


@pytest.mark.parametrize("attempts", range(1, ATTEMPTS))
def test_a_store_that_recovers_gets_the_whole_file_after_pauses_that_grow(attempts: int) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    def script(connection: Connection) -> None:
        if len(server.seen) <= attempts:
            refusal("503 Unavailable", "SlowDown")(connection)
        else:
            bodies.append(read_body(connection))
            connection.answer(b"")

    bodies: list[bytes] = []
    with Server(script) as server:
        put(bucket(server.url, pause=pause), AUDIO)
    assert bodies == [AUDIO]
    assert len(pauses) == attempts
    for number, seconds in enumerate(pauses):
        assert FIRST_PAUSE_SECONDS * 2**number / 2 <= seconds <= FIRST_PAUSE_SECONDS * 2**number


def test_a_store_that_is_not_there_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert reason(f"http://127.0.0.1:{port}") == "no connection could be made"
    assert reason("http://127.0.0.1:9", guard=trusting("10.0.0.0/8")) == "the host has an address that is not public"


def _closes_at_once(connection: Connection) -> None:
    connection.sock.close()


def _closes_within_the_status(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 2")
    connection.sock.close()


def _closes_within_the_headers(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.sock.close()


def _closes_within_the_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.sock.recv(1000)
    hard_close(connection)


def _closes_after_the_body(connection: Connection) -> None:
    read_body(connection)
    connection.sock.close()


@pytest.mark.parametrize(
    "script",
    [
        _closes_at_once,
        hard_close,
        _closes_within_the_status,
        _closes_within_the_headers,
        _closes_within_the_body,
        _closes_after_the_body,
    ],
)
def test_a_store_that_hangs_up_at_any_stage_is_tried_again_and_then_given_up(script: Script) -> None:
    with Server(script) as server:
        assert reason(server.url) in {"no connection could be made", "the answer is not HTTP", "the transfer broke off"}
        assert len(server.seen) >= ATTEMPTS


@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 100, b"HTTP/9.9 200 OK\r\n\r\n", b"\r\n\r\n"])
def test_what_is_not_http_is_a_failure(junk: bytes) -> None:
    def script(connection: Connection) -> None:
        connection.send(junk)
        connection.sock.close()

    with Server(script) as server:
        assert reason(server.url) in {"the answer is not HTTP", "no connection could be made"}


# -- What never ends --------------------------------------------------------------------------------------------------


def _drips_the_status(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 ")
    connection.drip(b"O")


def _drips_a_header(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    connection.drip(b"x")


def _drips_header_lines(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.drip(b"X: y\r\n")


def _drips_interim_answers(connection: Connection) -> None:
    connection.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


def _takes_the_body_and_says_nothing(connection: Connection) -> None:
    read_body(connection)
    while connection.sock.recv(1):
        pass
    raise OSError


def _never_takes_the_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    reset = select.poll()
    reset.register(connection.sock, 0)  # a plain close would come behind the bytes that are never read
    assert reset.poll(PATIENCE * 1000)
    raise OSError


@pytest.mark.parametrize(
    "script",
    [
        _drips_the_status,
        _drips_a_header,
        _drips_header_lines,
        _drips_interim_answers,
        _takes_the_body_and_says_nothing,
        _never_takes_the_body,
    ],
)
def test_a_slow_store_is_left_at_the_deadline_and_its_connection_closed(script: Script) -> None:
    with Server(script) as server:
        assert reason(server.url, timeout_seconds=0.3) == "it took longer than 0.3 s"
        if server.seen:  # a busy machine may need all of the time to get there
            assert server.gone.wait(PATIENCE)


def test_all_attempts_share_the_deadline() -> None:
    async def forever(seconds: float) -> None:
        await asyncio.Event().wait()

    with Server(refusal("503 Unavailable", "SlowDown")) as server:
        assert reason(server.url, timeout_seconds=0.3, pause=forever) == "it took longer than 0.3 s"


def test_a_store_that_accepts_no_connection_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for waiting in (first, second):  # fill the queue of connections that nobody accepts
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        assert reason(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_seconds=0.3) == "it took longer than 0.3 s"


def test_a_store_that_says_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "SILENCE_SECONDS", 0.2)
    with Server(_takes_the_body_and_says_nothing) as server:
        assert reason(server.url) == "it did not answer"
        assert len(server.seen) == ATTEMPTS


@pytest.mark.parametrize("status", ["403 Forbidden", "200 OK"])
def test_the_text_of_an_answer_is_not_waited_for(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "ERROR_SECONDS", 0.1)

    def script(connection: Connection) -> None:
        read_body(connection)
        connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 90000\r\n\r\n".encode())
        connection.drip(b"x")

    with Server(script) as server:
        if status.startswith("200"):
            put(bucket(server.url), AUDIO)
        else:
            assert reason(server.url) == "status 403"
        assert server.gone.wait(PATIENCE)


def _floods(head: bytes, piece: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.send(head)
        while True:
            connection.send(piece)

    return script


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(b"HTTP/1.1 403 F\r\nContent-Length: 800000000\r\n\r\n", b"R" * 2**16, id="800 MB"),
        pytest.param(b"HTTP/1.1 503 S\r\n\r\n", b"R" * 2**16, id="no length"),
        pytest.param(b"HTTP/1.1 500 I\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 2**16, id="a chunk's extension"),
        pytest.param(
            b"HTTP/1.1 301 M\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"R" * 2**16 + b"\r\n", id="chunks"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 9_000 + b"\r\n", id="header lines"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 2**16, id="a header"),
        pytest.param(b"", b"HTTP/1.1 102 Processing\r\nX: " + b"y" * 900 + b"\r\n\r\n", id="interim answers"),
    ],
)
def test_a_flood_is_cut_and_never_held_in_memory(head: bytes, piece: bytes) -> None:
    import botocore.auth  # noqa: F401  # whose modules are no part of what is measured

    with Server(_floods(head, piece)) as server:
        tracemalloc.start()
        try:
            reason(server.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert server.gone.wait(PATIENCE)
    assert peak < 16_000_000


def test_the_limit_of_bytes_is_for_all_attempts_together() -> None:
    def script(connection: Connection) -> None:
        read_body(connection)
        for _ in range(15):  # 600 kB, so that one attempt is within the limit and two are not
            connection.send(b"HTTP/1.1 103 Early Hints\r\nX: " + b"y" * 40_000 + b"\r\n\r\n")
        connection.answer(b"<Error><Code>SlowDown</Code></Error>", "503 Unavailable")

    with Server(script) as server:
        assert reason(server.url) == "it sent more bytes than are allowed"
        assert len(server.seen) >= 2


@pytest.mark.parametrize("script", [_takes_the_body_and_says_nothing, _never_takes_the_body, _drips_interim_answers])
def test_a_cancelled_upload_closes_its_connection_at_once(script: Script) -> None:
    async def cancelled(url: str) -> None:
        task = asyncio.create_task(bucket(url).upload(AUDIO * 20, name="a.wav", content_type="audio/wav"))
        await wait_until_async(lambda: bool(server.seen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_async(server.gone.is_set)  # while the event loop goes on, as a worker's does

    with Server(script) as server:
        asyncio.run(cancelled(server.url))


def test_a_defect_is_a_failed_upload_and_not_a_lost_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(upload_module, "read_target", defect)
    assert reason("http://127.0.0.1:9") == "RecursionError"
