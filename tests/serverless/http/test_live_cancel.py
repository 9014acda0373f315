"""WS /v1/audio/speech/stream: input.cancel, and the other ends of a sentence before its last word."""

from __future__ import annotations

import pytest

from tests.helpers.held_engine import Held
from tests.helpers.http_server import Running
from tests.helpers.live_client import SENTENCES, SHORT, TEXT, closed_with, live
from tests.helpers.patience import wait_until


def test_cancelling_silences_the_sentence_and_the_session_goes_on(held: Held) -> None:
    server = held.server
    with live(server.url) as client:
        client.config(response_format="pcm", stream_audio=True, seed=5)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
        client.send("input.cancel")
        audio_done = client.message("audio.done")
        assert audio_done["cancelled"] is True
        done = client.message("session.done")
        assert done["cancelled"] is True
        assert done["total_sentences"] == 1
        assert done["spoken_text"] == ""
        assert done["interrupted_sentence"] == SENTENCES[0]
        assert done["spoken_seconds"] == pytest.approx(audio_done["total_bytes"] / 48_000, abs=0.001)
        wait_until(lambda: server.service.stats()["active"] == 0)  # nobody has read on: the cancel ended it
        held.may_go_on.set()
        wait_until(server.idle)
        client.config(**SHORT)
        client.say("It is late now.")
        heard, done = client.utterance()
        assert (len(heard), done["utterance_index"]) == (1, 1)


@pytest.mark.parametrize("unread", ["within what may wait", "beyond it"])
def test_cancelling_is_heard_behind_any_text_that_nobody_has_spoken_yet(held: Held, unread: str) -> None:
    """Three scripts and 3000 messages of one letter stand before it, and perhaps more than is taken."""
    server = held.server
    script = server.service.settings.max_script_characters
    with live(server.url) as client:
        client.config(response_format="pcm", stream_audio=True, seed=5)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
        utterances = 4
        for _ in range(3):
            client.say(*["ten chars " * 100] * (script // 1000))
        for letter in "a letter " * 334:
            client.text(letter)
        if unread == "beyond it":
            utterances += 1
            client.say()
            client.text("x" * script)
            assert client.error()["field"] == "text"
            client.text("x" * script)
        client.send("input.cancel")
        assert client.message("audio.done")["cancelled"] is True  # its stream is still held
        ended = [client.message("session.done") for _ in range(utterances + 1)]
        assert [(each["cancelled"], each["total_sentences"]) for each in ended] == [
            (True, 1),
            *[(True, 0)] * utterances,
        ]
        wait_until(lambda: server.service.stats()["active"] == 0)
        held.may_go_on.set()
        client.say("We should go home.")
        assert [each.start["sentence_text"] for each in client.utterance()[0]] == ["We should go home."]


def test_cancelling_where_nothing_is_spoken_ends_the_utterance(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is")
        client.send("input.cancel")
        heard, done = client.utterance()
        assert (heard, done["cancelled"], done["utterance_index"]) == ([], True, 0)
        client.send("input.cancel")
        assert client.utterance()[1]["utterance_index"] == 1
        client.say("We should go home.")
        heard, _ = client.utterance()
        assert [each.start["sentence_text"] for each in heard] == ["We should go home."]


def test_what_was_heard_is_told(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is late now. We sh")
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
        client.message("audio.done")
        client.send("input.cancel")
        _, done = client.utterance()
    assert done["spoken_text"] == SENTENCES[0]
    assert done["interrupted_sentence"] is None
    assert done["spoken_seconds"] > 0


def test_closing_ends_the_session(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.say(TEXT)
        client.message("audio.start")
        client.send("session.close")
        assert closed_with(client) == 1000
    wait_until(server.idle)


def test_a_client_that_goes_frees_the_slot(held: Held) -> None:
    server = held.server
    with live(server.url) as client:
        client.config(response_format="pcm", stream_audio=True, seed=5)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
    wait_until(server.idle)
