"""WS /v1/audio/speech/stream: what a session may take of the worker's time, memory and places."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.helpers.held_engine import Held
from tests.helpers.live_client import SHORT, TEXT, closed_with, live
from tests.helpers.patience import wait_until
from tests.helpers.raw_http import connected, read_all, read_head
from tests.helpers.raw_websocket import HANDSHAKE, frame


def test_silence_ends_the_session_but_not_while_it_speaks(serve: Any) -> None:
    server = serve(max_idle_seconds=0.4)
    with live(server.url) as client:
        client.config(response_format="pcm", stream_audio=True, seed=1, max_new_tokens=700)
        client.say(TEXT)
        assert client.utterance()[1]["total_sentences"] == 3
        assert closed_with(client) == 1000


def test_a_message_that_is_too_large_ends_the_session(serve: Any) -> None:
    server = serve(max_request_bytes=100_000)
    with live(server.url) as client:
        client.config(**SHORT)
        with suppress(ConnectionClosed):
            client.text("x" * 100_000)
        assert closed_with(client) == 1009


def test_while_all_places_are_taken_a_session_is_told_to_come_again(held: Held) -> None:
    server = held.server
    with live(server.url) as first:
        first.config(stream_audio=True, **SHORT)
        first.say("It is late now.")
        first.message("audio.start")
        assert isinstance(first.next(), bytes)
        with live(server.url) as second:
            assert second.error()["code"] == "busy"
            assert closed_with(second) == 1013
        held.may_go_on.set()
        while isinstance(received := first.next(), bytes):
            pass
        assert received["error"] is False
    wait_until(server.idle)


def test_an_idle_session_takes_no_place(serve: Any) -> None:
    server = serve(slots=1, max_queued_requests=0)
    with live(server.url) as idle, live(server.url) as busy:
        idle.config(**SHORT)
        busy.config(**SHORT)
        busy.say("It is late now.")
        assert busy.utterance()[1]["total_sentences"] == 1
        wait_until(server.idle)
        idle.say("It is late now.")
        assert idle.utterance()[1]["total_sentences"] == 1


def test_what_waits_to_be_spoken_makes_the_client_wait(serve: Any) -> None:
    server = serve(max_script_characters=120)
    utterance = "It is late now. We should go home, as they wait for us. Good night to you all. "
    with live(server.url) as client:
        client.config(**SHORT)
        for _ in range(6):
            client.say(utterance)
        indices = [client.utterance()[1]["utterance_index"] for _ in range(6)]
    assert indices == list(range(6))


def test_unfinished_messages_of_all_clients_share_one_budget(serve: Any) -> None:
    server = serve(max_request_bytes=100_000, max_bodies_bytes=100_000)
    large, small = [frame(b"x" * size)[:-1] for size in (70_000, 50_000)]
    with connected(server.url) as first, connected(server.url) as second:
        for raw, message in ((first, large), (second, small)):
            raw.sendall(HANDSHAKE)
            read_head(raw)
            raw.sendall(message)
        assert read_all(first) == b"", "the one that holds most makes room"
        wait_until(lambda: 49_000 < server.app.state.bodies.budget.total < 60_000)


def test_a_configuration_counts_as_long_as_the_session_lasts(serve: Any) -> None:
    server = serve()
    budget = server.app.state.bodies.budget
    with live(server.url) as client:
        client.config(**SHORT, scene_prompt="x" * 5000)
        client.say()
        client.utterance()
        assert 5000 < budget.total < 6000
    wait_until(lambda: budget.total == 0)
