"""WS /v1/audio/speech/stream: what is spoken, and how it sounds."""

from __future__ import annotations

import io

import pytest
import requests
import soundfile

from higgs_core.speech.session import piece_seed
from tests.helpers.http_server import Running
from tests.helpers.live_client import SENTENCES, SHORT, TEXT, Heard, live
from tests.helpers.patience import PATIENCE


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


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is late now. [pause 1.5s]", ["It is late now. [pause 1.5s]"]),
        ("Good night. [pause 300ms] [pause]", ["Good night. [pause 300ms] [pause]"]),
        ("[pause 1s] It is late now.", ["[pause 1s] It is late now."]),
        ("It is late now. [pause 1.5s] We go home.", ["It is late now. [pause 1.5s]", "We go home."]),
        ("It is late now. [pause: 1] We go home. [pause 2s]", ["It is late now. [pause: 1]", "We go home. [pause 2s]"]),
    ],
    ids=["end", "two at the end", "start", "between", "between and end"],
)
def test_pauses_are_those_of_the_speech_route(server: Running, text: str, sentences: list[str]) -> None:
    body = {"input": text, **SHORT}
    spoken = requests.post(f"{server.url}/v1/audio/speech", json=body, timeout=PATIENCE).content
    for pieces, streams in ((text, True), (text, False), ([text], True)):
        with live(server.url) as client:
            client.config(**SHORT, stream_audio=streams)
            client.say(*pieces)
            heard, done = client.utterance()
        assert [each.start["sentence_text"] for each in heard] == sentences
        assert b"".join(each.audio for each in heard) == spoken
        assert done["spoken_seconds"] == pytest.approx(len(spoken) / 48_000, abs=0.001)


def test_a_pause_alone_is_refused_as_by_the_speech_route(server: Running) -> None:
    body = {"input": "[pause 1.5s]", **SHORT}
    refused = requests.post(f"{server.url}/v1/audio/speech", json=body, timeout=PATIENCE).json()["error"]
    with live(server.url) as client:
        client.config(**SHORT)
        client.say(*"[pause 1.5s]")
        client.message("audio.start")
        assert client.error()["message"] == refused["message"]
        assert client.message("audio.done")["error"] is True
        assert client.message("session.done")["total_sentences"] == 1
