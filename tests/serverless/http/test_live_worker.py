"""WS /v1/audio/speech/stream: a worker that loads, fails or stops, its log and its metrics."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
import requests

from higgs_core import HiggsAudioEngine
from higgs_core.errors import DeviceMemoryError
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import serving_http
from tests.helpers.live_client import SENTENCES, SHORT, TEXT, closed_with, live
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.service import SharedEngine


def test_while_the_model_loads_a_session_is_told_to_come_again(tiny_engine: HiggsAudioEngine) -> None:
    loaded = threading.Event()

    def boot(_: Settings) -> Any:
        assert loaded.wait(PATIENCE)
        return SharedEngine(tiny_engine)

    settings = Settings(model_id="tiny", device="cpu")
    with serving_http(settings, SpeechService(settings, boot=boot), ready=False) as server:
        with live(server.url) as client:
            assert client.error()["code"] == "loading"
            assert closed_with(client) == 1013
        loaded.set()
        wait_until(lambda: server.service.ready)
        with live(server.url) as client:
            client.config()


def test_a_server_that_stops_ends_the_sentence_and_then_the_session(tiny_engine: HiggsAudioEngine) -> None:
    told = threading.Event()

    def until_told() -> None:
        assert told.wait(PATIENCE)

    settings = Settings(model_id="tiny", device="cpu")
    service = SpeechService(settings, boot=lambda _: SharedEngine(tiny_engine, until_told))  # type: ignore[arg-type, return-value]
    context = serving_http(settings, service)
    server = context.__enter__()
    with live(server.url) as idle, live(server.url) as client:
        idle.config(**SHORT)
        idle.say()
        idle.utterance()
        client.config(stream_audio=True, **SHORT)
        client.say(TEXT)
        client.message("audio.start")
        stopping = threading.Thread(target=context.__exit__, args=(None, None, None))
        stopping.start()
        assert closed_with(idle) == 1001
        told.set()
        frames = 0
        while isinstance(received := client.next(), bytes):
            frames += 1
        assert frames > 0
        assert received["type"] == "audio.done"
        assert "cancelled" not in received
        done = client.message("session.done")
        assert (done["cancelled"], done["spoken_text"]) == (True, SENTENCES[0])
        assert closed_with(client) == 1001
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_an_error_of_a_sentence_is_told_and_the_next_one_is_spoken(serve: Any) -> None:
    failing = [True, True]

    def before() -> None:
        if failing:
            failing.pop()
            raise DeviceMemoryError("The device is out of memory.")

    server = serve(before=before)
    with live(server.url) as client:
        client.config(**SHORT)
        client.say("It is late now. We should go home.")
        client.message("audio.start")
        error = client.error()
        assert (error["code"], error["utterance_index"], error["sentence_index"]) == ("out_of_memory", 0, 0)
        assert client.message("audio.done")["error"] is True
        heard, done = client.utterance()
        assert len(heard) == 1
        assert len(heard[0].audio) > 0
        assert done["total_sentences"] == 2


def test_nothing_of_the_text_is_in_the_log_and_each_sentence_has_its_line(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    with caplog.at_level(logging.DEBUG), live(server.url) as client:
        client.config(**SHORT, scene_prompt="A secret place.")
        client.say("Marmalade is late now. We should go home.")
        client.utterance()
        client.send("input.sing", text="Marmalade")
        client.error()
        client.send("session.close")
        assert closed_with(client) == 1000
    wait_until(lambda: "live session ended" in caplog.text)
    log = "\n".join(record.getMessage() for record in caplog.records if record.name != "websockets.client")
    assert "Marmalade" not in log
    assert "secret" not in log
    assert log.count("job finished") == 2
    assert "Traceback" not in caplog.text


def test_sessions_and_sentences_are_counted(serve: Any) -> None:
    server = serve()
    with live(server.url) as client:
        client.config(**SHORT, stream_audio=True)
        client.say(TEXT)
        client.utterance()
        client.send("session.close")
        closed_with(client)

    def metrics() -> str:
        return requests.get(f"{server.url}/metrics", timeout=PATIENCE).text

    wait_until(lambda: 'route="/v1/audio/speech/stream",status="1000"} 1.0' in metrics())
    assert "higgs_time_to_first_audio_seconds_count 3.0" in metrics()
