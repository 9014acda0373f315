"""Requests of other projects, byte for byte as they were recorded, and answers as these projects read them.

LiveKit's and Pipecat's were recorded from their released packages; recorded/*.json names the versions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.audio import decode_audio, ffmpeg_path
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.paths import ROOT
from tests.helpers.raw_http import connected, read_all
from tests.helpers.service import SharedEngine

RECORDED = ROOT / "tests/serverless/http/recorded"
KEY = "key-of-a-test"
NO_SPEED = pytest.mark.skipif(ffmpeg_path() is None, reason="needs ffmpeg")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes


@pytest.fixture(scope="module")
def keyed(tiny_engine: HiggsAudioEngine) -> Iterator[Running]:
    """A server with the key that the recorded requests carry, whose lists are public."""
    engine = SharedEngine(tiny_engine)
    settings = Settings.from_environment(
        {"HIGGS_AUDIO_MODEL_ID": "tiny", "HIGGS_AUDIO_API_KEY": KEY, "HIGGS_AUDIO_PUBLIC_LISTS": "1"}
    )
    with serving_http(settings, SpeechService(settings, boot=lambda _: engine)) as running:  # type: ignore[arg-type, return-value]
        yield running


def recorded(client: str, index: int) -> dict[str, Any]:
    request: dict[str, Any] = json.loads((RECORDED / f"{client}.json").read_text())["requests"][index]
    return request


def replay(server: Running, client: str, index: int) -> Answer:
    """Send a recorded request. Only its Host is the server's own, and its connection ends with the answer."""
    request = recorded(client, index)
    host = urlsplit(server.url).netloc
    lines = [line for line in request["headers"] if not line.lower().startswith("connection:")]
    head = [f"{request['method']} {request['target']} HTTP/1.1", f"Host: {host}", *lines, "Connection: close", "", ""]
    with connected(server.url) as raw:
        raw.sendall("\r\n".join(head).encode() + request["body"].encode())
        return parsed(read_all(raw))


def parsed(data: bytes) -> Answer:
    class Socket:
        def makefile(self, *_: object) -> BytesIO:
            return BytesIO(data)

    response = HTTPResponse(Socket())  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, response.msg, response.read())


def media_type(answer: Answer) -> str:
    return str(answer.headers["Content-Type"]).split(";")[0].strip().lower()


def livekit_audio(answer: Answer) -> tuple[bytes, dict[str, int]]:
    """What LiveKit's plugin makes of an answer: the audio, and the usage where it comes as events."""
    assert answer.status == 200
    assert answer.headers["x-request-id"]
    if media_type(answer) != "text/event-stream":
        return answer.body, {}
    audio, usage = b"", {}
    for line in answer.body.decode().splitlines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line[6:])
        if event.get("type") == "speech.audio.delta":
            audio += base64.b64decode(event.get("delta", "") or event.get("audio", ""))
        elif event.get("type") == "speech.audio.done":
            usage = event["usage"]
    return audio, usage


@pytest.mark.parametrize(("index", "kind"), [(0, "mp3"), (2, "pcm"), (3, "wav")])
def test_livekit_gets_events_from_every_model_with_tokens(keyed: Running, index: int, kind: str) -> None:
    body = json.loads(recorded("livekit", index)["body"])
    assert (body["stream_format"], body["response_format"]) == ("sse", kind)
    answer = replay(keyed, "livekit", index)
    assert media_type(answer) == "text/event-stream"
    audio, usage = livekit_audio(answer)
    assert_audio(audio, kind)
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0


def test_livekit_gets_bytes_from_tts_1(keyed: Running) -> None:
    body = json.loads(recorded("livekit", 1)["body"])
    assert (body["model"], body["stream_format"]) == ("tts-1", "audio")
    answer = replay(keyed, "livekit", 1)
    assert media_type(answer) == "audio/mpeg"
    assert_audio(livekit_audio(answer)[0], "mp3")


def test_the_connection_that_livekit_makes_in_advance_gets_an_answer(keyed: Running) -> None:
    assert replay(keyed, "livekit", 4).status == 404


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=NO_SPEED)])
def test_pipecat_gets_samples_at_24_khz(keyed: Running, index: int) -> None:
    answer = replay(keyed, "pipecat", index)
    assert (answer.status, media_type(answer)) == (200, "audio/pcm")
    assert_audio(answer.body, "pcm")


def test_open_webui_lists_the_models(keyed: Running) -> None:
    assert not any(line.lower().startswith("authorization") for line in recorded("open_webui", 0)["headers"])
    answer = replay(keyed, "open_webui", 0)
    assert answer.status == 200
    names = {model["id"]: model["name"] for model in json.loads(answer.body)["models"]}
    assert {"tiny", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"} <= set(names)
    fallback = json.loads(replay(keyed, "open_webui", 1).body)
    assert [model["id"] for model in fallback["data"]] == ["tiny"]


def test_open_webui_asks_for_the_voices_without_its_key(keyed: Running) -> None:
    assert not any(line.lower().startswith("authorization") for line in recorded("open_webui", 2)["headers"])
    answer = replay(keyed, "open_webui", 2)
    assert answer.status == 200
    names = {voice["id"]: voice["name"] for voice in json.loads(answer.body)["voices"]}
    assert {"default", "alloy", "verse"} <= set(names)


@pytest.mark.parametrize(("client", "index"), [("open_webui", 3), ("sillytavern", 0)])
def test_a_chat_gets_its_message_as_mp3(keyed: Running, client: str, index: int) -> None:
    answer = replay(keyed, client, index)
    assert (answer.status, media_type(answer)) == (200, "audio/mpeg")
    assert_audio(answer.body, "mp3")


@pytest.mark.parametrize("name", ["livekit", "pipecat", "open_webui", "sillytavern"])
def test_every_recording_is_whole(name: str) -> None:
    for request in json.loads((RECORDED / f"{name}.json").read_text())["requests"]:
        stated = [line.split(": ")[1] for line in request["headers"] if line.lower().startswith("content-length")]
        assert stated == ([str(len(request["body"].encode()))] if request["body"] else [])


def assert_audio(data: bytes, kind: str) -> None:
    """Something that can be played; how long noise of random weights lasts is left to chance."""
    if kind == "pcm":
        assert len(data) > 0
        assert len(data) % 2 == 0
    else:
        assert len(decode_audio(data, origin="the answer", min_seconds=0)) > 0
