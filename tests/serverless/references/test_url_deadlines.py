"""A server that trickles, says nothing or redirects again and again: one deadline ends the fetch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.references.url_fetch import fetch
from tests.helpers.clips import resolve
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.url_fetches import CAP, get, stay_silent


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


def _slow_redirects(connection: Connection) -> None:
    threading.Event().wait(0.2)
    connection.redirect("/again")


@pytest.mark.parametrize(
    "script", [_slow_body, _slow_headers, _slow_status, _endless_interim_answers, _slow_chunks, stay_silent]
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
