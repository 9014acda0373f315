"""WS /v1/audio/speech/stream, with a real client on loopback."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import soundfile
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from higgs_core import HiggsAudioEngine
from higgs_core.errors import DeviceMemoryError
from higgs_core.speech.session import piece_seed
from serverless.config.settings import Settings
from serverless.http.websocket import FIRST_MESSAGE_BYTES
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.live_client import Heard, Live, live
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.raw_http import connected, read_all, read_head
from tests.helpers.service import EngineOfSlots, SharedEngine

TEXT = "It is late now. We should go home, as they wait for us. Good night to you all."
SENTENCES = ["It is late now.", "We should go home, as they wait for us.", "Good night to you all."]
SHORT = {"max_new_tokens": 30, "seed": 5, "response_format": "pcm"}


HANDSHAKE = (
    b"GET /v1/audio/speech/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(text: bytes) -> bytes:
    """A text frame, masked with zeros as a client has to."""
    return b"\x81\xff" + len(text).to_bytes(8) + bytes(4) + text


class HeldStream:
    """A generation whose reader gets the first audio, and what follows once it may."""

    def __init__(self, stream: Any, may_go_on: threading.Event) -> None:
        self._stream = stream
        self._may_go_on = may_go_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> HeldStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._stream:
            yield chunk
            assert not len(chunk.audio) or self._may_go_on.wait(PATIENCE)


class HeldEngine(SharedEngine):
    """may_go_on: set it to let its streams go on."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.may_go_on = threading.Event()

    def stream(self, *arguments: Any) -> Any:
        return HeldStream(super().stream(*arguments), self.may_go_on)


@pytest.fixture
def held(tiny_engine: HiggsAudioEngine) -> Iterator[tuple[Running, threading.Event]]:
    """A server whose sentences stay in the middle until the event is set, and that has a place for one."""
    settings = Settings(model_id="tiny", device="cpu", max_queued_requests=0)
    engine = HeldEngine(EngineOfSlots(tiny_engine, 1))
    with serving_http(settings, SpeechService(settings, boot=lambda _: engine)) as server:  # type: ignore[arg-type, return-value]
        yield server, engine.may_go_on
        engine.may_go_on.set()


def closed_with(client: Live) -> int:
    """The code of the server's close, after whatever else it sends."""

    def until_it_closes() -> None:
        while True:
            client.next()

    with pytest.raises(ConnectionClosed) as caught:
        until_it_closes()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def pings(server: Running) -> bool:
    return requests.get(f"{server.url}/ping", timeout=PATIENCE).status_code == 200


# -- Speech -----------------------------------------------------------------------------------------------------------


def test_sentences_are_spoken_while_the_text_still_comes(server: Running) -> None:
    with live(server.url) as client:
        client.config(stream_audio=True, **SHORT)
        client.text(TEXT[:40])  # no input.done
        start = client.message("audio.start")
        assert start == {
            "type": "audio.start",
            "utterance_index": 0,
            "sentence_index": 0,
            "sentence_text": "It is late now.",
            "format": "pcm",
            "sample_rate": 24000,
        }
        frames = []
        while isinstance(received := client.next(), bytes):
            frames.append(received)
        assert received["type"] == "audio.done"
        assert received["total_bytes"] == sum(map(len, frames)) > 0
        assert received["error"] is False
        client.say(TEXT[40:])
        heard, done = client.utterance()
        assert [each.start["sentence_text"] for each in heard] == SENTENCES[1:]
        assert [each.start["sentence_index"] for each in heard] == [1, 2]
        assert done["total_sentences"] == 3
        assert "cancelled" not in done
        spoken = (len(b"".join(frames)) + sum(len(each.audio) for each in heard)) / 48_000
        assert done["spoken_seconds"] == pytest.approx(spoken, abs=0.001)


def test_the_same_text_gives_the_same_audio_whatever_its_division(server: Running) -> None:
    audio = []
    for pieces in ([TEXT], list(TEXT), [TEXT[:7], TEXT[7:33], TEXT[33:]]):
        with live(server.url) as client:
            client.config(**SHORT, stream_audio=True)
            client.say(*pieces)
            heard, _ = client.utterance()
            audio.append([each.audio for each in heard])
    assert audio[0] == audio[1] == audio[2]
    assert len(set(audio[0])) == 3


def test_earlier_sentences_are_context_until_another_configuration(server: Running) -> None:
    fields = {"seed": 5, "response_format": "pcm"}
    with live(server.url) as client:
        client.config(**fields)
        client.say(TEXT)
        first, _ = client.utterance()
        client.say(TEXT)
        again, done = client.utterance()
        client.config(**fields)
        client.say(TEXT)
        fresh, _ = client.utterance()

    def prompts(heard: list[Heard]) -> list[int]:
        return [each.done["usage"]["prompt_tokens"] for each in heard]

    assert prompts(first)[2] > prompts(first)[0]
    assert prompts(again)[0] > prompts(first)[2], "the first utterance stands before the second"
    assert prompts(fresh) == prompts(first)
    assert [each.audio for each in fresh] == [each.audio for each in first]
    assert done["utterance_index"] == 1


def test_a_first_sentence_is_the_speech_routes_and_each_has_a_seed_of_its_own(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT, voice="belinda")
        client.say(TEXT)
        heard, _ = client.utterance()
    body = {"input": SENTENCES[0], "voice": "belinda", **SHORT}
    spoken = requests.post(f"{server.url}/v1/audio/speech", json=body, timeout=PATIENCE).content
    assert heard[0].audio == spoken
    assert [each.done["seed"] for each in heard] == [piece_seed(5, index) for index in range(3)]


@pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3", "opus"])
@pytest.mark.parametrize("stream_audio", [False, True])
def test_each_sentence_is_a_file_of_its_own(server: Running, audio_format: str, stream_audio: bool) -> None:
    with live(server.url) as client:
        client.config(max_new_tokens=30, seed=1, response_format=audio_format, stream_audio=stream_audio)
        client.say("It is late now. We should go.")
        heard, done = client.utterance()
    assert [each.start["format"] for each in heard] == [audio_format] * 2
    seconds = 0.0
    for each in heard:
        assert stream_audio or len(each.frames) == 1
        audio, rate = soundfile.read(io.BytesIO(each.audio))
        assert rate in (24_000, 48_000)
        seconds += len(audio) / rate
    assert done["spoken_seconds"] == pytest.approx(seconds, abs=0.2)


def test_without_any_field_a_sentence_is_one_wav_file(server: Running) -> None:
    with live(server.url) as client:
        client.config()
        client.say("It is late now.")
        heard, _ = client.utterance()
    assert len(heard[0].frames) == 1
    assert heard[0].start["format"] == "wav"
    audio, _ = soundfile.read(io.BytesIO(heard[0].audio))
    assert len(audio) / 24_000 == pytest.approx(heard[0].done["duration_seconds"], abs=0.001)


def test_turns_of_named_speakers_keep_their_speaker(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT, speakers={"Anna": {"description": "a child"}, "Ben": {"description": "an old man"}})
        client.say("[Anna] Shall we go now? It is really late. [BEN] After you.")
        heard, _ = client.utterance()
    assert [each.start["sentence_text"] for each in heard] == [
        "[Anna] Shall we go now?",
        "It is really late.",
        "[BEN] After you.",
    ]
    assert not any(each.done["error"] for each in heard)


def test_warnings_about_fields_are_told_once(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT, colour="blue")
        client.say(TEXT)
        heard, _ = client.utterance()
    assert ["colour" in str(each.done["warnings"]) for each in heard] == [True, False, False]


def test_an_utterance_without_words_ends_at_once(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.say()
        assert client.utterance()[1]["total_sentences"] == 0
        client.say(" ... ")
        heard, done = client.utterance()
        assert (heard, done["total_sentences"], done["utterance_index"]) == ([], 0, 1)


# -- Cancelling -------------------------------------------------------------------------------------------------------


def test_cancelling_silences_the_sentence_and_the_session_goes_on(held: tuple[Running, threading.Event]) -> None:
    server, may_go_on = held
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
        may_go_on.set()
        wait_until(server.idle)
        client.config(**SHORT)
        client.say("It is late now.")
        heard, done = client.utterance()
        assert (len(heard), done["utterance_index"]) == (1, 1)


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


# -- Wrong messages ---------------------------------------------------------------------------------------------------

WRONG = [
    ({"type": "session.config", "temperature": 99}, "temperature"),
    ({"type": "session.config", "voice": "nobody"}, "voice"),
    ({"type": "session.config", "model": "gpt-99"}, "model"),
    ({"type": "session.config", "response_format": "doc"}, "response_format"),
    ({"type": "session.config", "stream_audio": "yes"}, "stream_audio"),
    ({"type": "session.config", "input": "Hello."}, "input"),
    ({"type": "input.text"}, "text"),
    ({"type": "input.text", "text": 5}, "text"),
    ({"type": "input.sing"}, "type"),
    ({}, "type"),
]


@pytest.mark.parametrize(
    ("message", "field"), WRONG, ids=[f"{field}-{index}" for index, (_, field) in enumerate(WRONG)]
)
def test_what_is_wrong_is_named_and_the_session_goes_on(server: Running, message: Any, field: str) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.send(**{"kind": message.get("type", "?"), **{k: v for k, v in message.items() if k != "type"}})
        error = client.error()
        assert error["field"] == field
        assert error["message"]
        client.say("It is late now.")
        heard, _ = client.utterance()
        assert len(heard[0].audio) > 0


def test_no_json_is_an_error_and_binary_ends_the_session(server: Running) -> None:
    with live(server.url) as client:
        for text in ("{", "[]", '"', "null", "1e999"):
            client.socket.send(text)
            assert client.error()["code"] == "invalid_request"
        client.text("Hello.")
        assert "session.config" in client.error()["message"]
        client.socket.send(b"\x00\x01")
        assert closed_with(client) == 1003


def test_too_many_errors_end_the_session(server: Running) -> None:
    with live(server.url) as client:
        with suppress(ConnectionClosed):
            for _ in range(40):
                client.socket.send("{")
        assert closed_with(client) == 1008


def test_a_configuration_in_mid_utterance_is_refused(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is")
        client.config(seed=1)
        assert "in the middle" in client.error()["message"]
        client.say(" late now.")
        assert client.utterance()[0][0].done["seed"] == 5


def test_a_text_that_is_too_long_is_refused_and_what_came_before_is_spoken(serve: Any) -> None:
    server = serve(max_script_characters=40)
    with live(server.url) as client:
        client.config(**SHORT)
        client.text("It is late now. ")
        client.text("x" * 40)
        heard = [client.next()]
        while not (isinstance(heard[-1], dict) and heard[-1]["type"] == "error"):
            heard.append(client.next())
        assert heard[-1]["field"] == "text"
        client.send("input.done")
        while not (isinstance(heard[-1], dict) and heard[-1]["type"] == "session.done"):
            heard.append(client.next())
        assert heard[-1]["total_sentences"] == 1


def test_closing_ends_the_session(server: Running) -> None:
    with live(server.url) as client:
        client.config(**SHORT)
        client.say(TEXT)
        client.message("audio.start")
        client.send("session.close")
        assert closed_with(client) == 1000
    wait_until(server.idle)


def test_a_client_that_goes_frees_the_slot(held: tuple[Running, threading.Event]) -> None:
    server, _ = held
    with live(server.url) as client:
        client.config(response_format="pcm", stream_audio=True, seed=5)
        client.say(TEXT)
        client.message("audio.start")
        assert isinstance(client.next(), bytes)
    wait_until(server.idle)


# -- Key and origin ---------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(serve: Any) -> Running:
    return serve(api_key=SecretStr("s3cret-key"))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": "Bearer s3cret-key"}},
        {"additional_headers": {"X-API-Key": "s3cret-key"}},
        {"subprotocols": [Subprotocol("higgs-audio"), Subprotocol("bearer.s3cret-key")]},
    ],
    ids=["bearer", "header", "subprotocol"],
)
def test_the_key_comes_with_the_handshake(locked: Running, options: Any) -> None:
    with live(locked.url, **options) as client:
        assert client.socket.subprotocol == ("higgs-audio" if "subprotocols" in options else None)
        client.config(**SHORT)
        client.say("It is late now.")
        assert client.utterance()[1]["total_sentences"] == 1


def test_the_key_comes_in_the_first_message(locked: Running) -> None:
    with live(locked.url) as client:
        client.config(api_key="s3cret-key", **SHORT)
        client.say("It is late now.")
        heard, _ = client.utterance()
        assert not any("api_key" in warning for warning in heard[0].done["warnings"])


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, {"type": "session.config"}),
        ({}, {"type": "session.config", "api_key": "s3cret"}),
        ({}, {"type": "session.config", "api_key": ["s3cret-key"]}),
        ({}, {"type": "input.text", "text": "Hello."}),
        (
            {"additional_headers": {"Authorization": "Bearer wrong"}},
            {"type": "session.config", "api_key": "s3cret-key"},
        ),
        ({"subprotocols": [Subprotocol("bearer.wrong")]}, None),
    ],
    ids=["none", "wrong", "list", "text first", "wrong header", "wrong subprotocol"],
)
def test_without_the_key_nothing_is_served(locked: Running, options: Any, first: Any) -> None:
    with live(locked.url, **options) as client:
        if first:
            with suppress(ConnectionClosed):  # it may have been closed already
                client.socket.send(json.dumps(first))
        assert client.error()["code"] == "invalid_api_key"
        assert closed_with(client) == 4401
    assert locked.service.in_flight == 0


def test_a_key_in_the_address_is_none(locked: Running) -> None:
    address = locked.url.replace("http", "ws") + "/v1/audio/speech/stream?api_key=s3cret-key"
    with connect(address, proxy=None) as socket:
        client = Live(socket)
        client.config()
        assert client.error()["code"] == "invalid_api_key"


def test_who_shows_no_key_has_little_time_and_little_room(serve: Any) -> None:
    server = serve(api_key=SecretStr("s3cret-key"), max_header_seconds=0.3)
    with live(server.url) as client:
        assert client.error()["code"] == "invalid_api_key"
        assert closed_with(client) == 4401
    with live(server.url) as client:
        with suppress(ConnectionClosed):
            client.socket.send("x" * (FIRST_MESSAGE_BYTES + 1))
        assert closed_with(client) == 1009


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", ""])
def test_a_page_of_another_origin_is_refused(server: Running, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught, live(server.url, additional_headers={"Origin": origin}):
        pass
    assert caught.value.response.status_code == 403


def test_the_servers_own_page_may_connect(server: Running) -> None:
    with live(server.url, origin=server.url) as client:
        client.config(**SHORT)
        client.say()
        assert client.utterance()[1]["total_sentences"] == 0


# -- Bounds -----------------------------------------------------------------------------------------------------------


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


def test_while_all_places_are_taken_a_session_is_told_to_come_again(held: tuple[Running, threading.Event]) -> None:
    server, may_go_on = held
    with live(server.url) as first:
        first.config(stream_audio=True, **SHORT)
        first.say("It is late now.")
        first.message("audio.start")
        assert isinstance(first.next(), bytes)
        with live(server.url) as second:
            assert second.error()["code"] == "busy"
            assert closed_with(second) == 1013
        may_go_on.set()
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


def test_a_client_that_takes_nothing_is_cut_off(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(max_stalled_seconds=0.3)
    with caplog.at_level(logging.INFO), connected(server.url, receive_buffer=4096) as raw:
        raw.sendall(HANDSHAKE)
        assert b" 101 " in read_head(raw)
        words = "Many words to speak, one after the other. " * 20
        config = {
            "type": "session.config",
            "response_format": "wav",
            "wav_encoding": "float32",
            "stream_audio": True,
            "seed": 5,
        }
        for message in (config, {"type": "input.text", "text": words}, {"type": "input.done"}):
            raw.sendall(frame(json.dumps(message).encode()))
        wait_until(lambda: "was cut off" in caplog.text)
        wait_until(server.idle)
    wait_until(lambda: server.service.unread.total == 0 and server.app.state.bodies.budget.total == 0)
    assert "Traceback" not in caplog.text


def test_what_is_no_websocket_is_refused_or_answered_as_before(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serve()
    cases = {
        HANDSHAKE.replace(b"/v1/audio/speech/stream", b"/ping"): b" 200 ",
        HANDSHAKE.replace(b"Sec-WebSocket-Version: 13\r\n", b""): b" 4",
        HANDSHAKE.replace(b"GET", b"POST"): b" 4",
        HANDSHAKE.replace(b"Host: x\r\n", b"Host: x\r\nContent-Length: 5\r\n") + b"hello": b" 400 ",
        HANDSHAKE.replace(b"Host: x\r\n", b"Host: x\r\n" + b"X-A: b\r\n" * 200): None,
    }
    for request, status in cases.items():
        with connected(server.url) as raw:
            raw.sendall(request)
            head = read_head(raw)
            assert head == b"" if status is None else status in head.split(b"\r\n")[0] + b" "
    with connected(server.url) as raw:
        raw.sendall(HANDSHAKE)
        read_head(raw)
        raw.sendall(b"\xff" * 64)  # no frame
        read_all(raw)
    wait_until(lambda: server.app.state.bodies.budget.total == 0)
    assert pings(server)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_what_comes_right_behind_the_handshake_is_read(serve: Any) -> None:
    server = serve()
    with connected(server.url) as raw:
        raw.sendall(HANDSHAKE + frame(b'{"type": "session.close"}'))
        got = read_head(raw)
        while b"\x88" not in got.partition(b"\r\n\r\n")[2]:  # the closing frame
            part = raw.recv(4096)
            assert part
            got += part


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
