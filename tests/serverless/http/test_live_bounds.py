"""WS /v1/audio/speech/stream: what a session may take of the worker's time, memory and places."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from serverless.http.live.utterances import MAX_UTTERANCES
from tests.helpers.held_engine import Held
from tests.helpers.live_client import SENTENCES, SHORT, TEXT, closed_with, live
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


def test_several_texts_may_wait(serve: Any) -> None:
    server = serve(max_script_characters=120)
    with live(server.url) as client:
        client.config(**SHORT)
        for _ in range(4):
            client.say(TEXT)
        indices = [client.utterance()[1]["utterance_index"] for _ in range(4)]
    assert indices == list(range(4))


def test_text_beyond_what_may_wait_is_refused_once_and_the_rest_of_its_utterance_is_dropped(hold: Any) -> None:
    held = hold(max_script_characters=100)
    words = "word " * 19
    with live(held.server.url) as client:
        client.config(**SHORT, stream_audio=True)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
        for _ in range(3):
            client.say(words)
        client.say("It is late now. ", words[:60], "Nobody hears this.")
        error = client.error()
        assert (error["field"], error["code"]) == ("text", "invalid_request")
        assert "session keeps waiting" in error["message"]
        client.say("Good night.")  # there is room for this
        budget = held.server.app.state.bodies.budget
        wait_until(lambda: 4 * 300 < budget.total < 4 * 400 + 1000)  # what waits is counted; the rest is read and gone
        held.may_go_on.set()
        while isinstance(client.next(), bytes):
            pass
        heard = [client.utterance() for _ in range(6)]
    texts = [[each.start["sentence_text"] for each in sentences] for sentences, _ in heard]
    assert texts == [SENTENCES[1:], *[[words.strip()]] * 3, ["It is late now."], ["Good night."]]
    wait_until(lambda: budget.total == 0)


@pytest.mark.parametrize("piece", ["word ", "x" * 1000, ""], ids=["words", "long", "empty"])
def test_a_client_that_writes_on_and_on_is_closed(hold: Any, piece: str) -> None:
    held = hold(max_script_characters=100)
    with live(held.server.url) as client:
        client.config(**SHORT, stream_audio=True)
        client.text("It is late now. " + "x" * 84)
        client.text("y")
        with suppress(ConnectionClosed):
            for _ in range(2000):
                client.text(piece)
        assert closed_with(client) == 1008
    wait_until(held.server.idle)


def test_utterances_that_wait_are_bounded(held: Held) -> None:
    with live(held.server.url) as client:
        client.config(**SHORT, stream_audio=True)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
        for _ in range(MAX_UTTERANCES):
            client.say()
        assert "utterances wait" in client.error()["message"]
        client.send("input.cancel")
        assert client.message("audio.done")["cancelled"] is True
        ended = [client.message("session.done")["utterance_index"] for _ in range(MAX_UTTERANCES)]
        assert ended == list(range(MAX_UTTERANCES))


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
