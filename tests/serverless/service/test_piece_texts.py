"""A stream tells what a piece says with the audio that begins it, at any speed and with pauses, and never twice."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests

from higgs_core import HiggsAudioEngine
from higgs_core.audio import encode_audio
from higgs_core.speech.speak import SpeechChunk
from serverless.service.piece_texts import PieceTexts
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.helpers.service import items, serving

JOB = {
    "script": "[pause 1s] One two three. [pause 500ms] Four five six. Seven eight nine. [pause 2]",
    "chunk_method": "sentence",
    "chunk_max_word_num": 3,
    "max_new_tokens": 60,
    "seed": 4,
    "stream": True,
    "response_format": "pcm",
}
TEXTS = ["One two three.", "Four five six.", "Seven eight nine."]


def silence(samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros(samples, np.float32)


def test_a_text_is_told_where_its_piece_begins_at_that_speed() -> None:
    texts = PieceTexts(2.0)
    speech = [
        SpeechChunk(silence(100), 0, None, is_pause=True),
        SpeechChunk(silence(60), 100, None, "a"),
        SpeechChunk(silence(40), 160, None),
        SpeechChunk(silence(20), 200, None, "b"),
        SpeechChunk(silence(50), 220, None, is_pause=True),
        SpeechChunk(silence(80), 270, None, "c"),
    ]
    assert list(texts.noted(iter(speech))) == speech
    told = []
    for start in range(0, 250, 25):  # a stage in between gives it out in other chunks
        told += [((first, last), texts.take(first)) for first, last in texts.cut(start, start + 25, 20)]
    assert [place for place, _ in told][:6] == [(0, 20), (20, 25), (25, 45), (45, 50), (50, 70), (70, 75)]
    assert [((first, last), found) for (first, last), found in told if found] == [
        ((100, 120), ["a"]),
        ((150, 170), ["b"]),
        ((210, 225), ["c"]),
    ]
    assert texts.take(10_000) == []


def test_closing_it_closes_what_it_reads() -> None:
    closed = []

    def speech() -> Iterator[SpeechChunk]:
        try:
            yield SpeechChunk(silence(10), 0, None, "a")
        finally:
            closed.append(True)

    noted = PieceTexts(1.0).noted(speech())
    next(noted)
    noted.close()  # type: ignore[attr-defined]
    assert closed


def job_of(job: dict[str, Any]) -> dict[str, Any]:
    return {"max_new_tokens": 60, "seed": 4, "stream": True, "response_format": "pcm", "normalize_numbers": True} | job


@pytest.mark.parametrize(
    "shape",
    [
        {
            "script": "[Agent 7] One 2.\nBen: Three. [agent 7] Four.",
            "speakers": {"Agent 7": {"description": "calm"}, "Ben": {"description": "deep"}},
        },
        {
            "dialogue": [
                {"speaker": "Agent 7", "text": "One 2."},
                {"speaker": "Ben", "text": "Three. [agent 7] Four."},
            ]
        },
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_piece_names_its_speakers_as_the_request_does(
    tiny_engine: HiggsAudioEngine, shape: dict[str, Any], *, stream: bool
) -> None:
    with serving(tiny_engine) as service:
        *parts, final = asyncio.run(items(service, job_of({"chunk_method": "speaker", "stream": stream, **shape})))
    texts = [chunk["text"] for chunk in final["chunks"]]
    assert texts == ["[Agent 7] One two.", "[Ben] Three.", "[Agent 7] Four."]
    assert list(told_by(parts).values()) == (texts if stream else [])
    assert final["prompt"] == "[Agent 7] One 2.\n[Ben] Three. [Agent 7] Four."


def told_by(parts: list[dict[str, Any]]) -> dict[float, str]:
    """start_seconds -> text, of the parts that have one."""
    return {part["start_seconds"]: part["text"] for part in parts if "text" in part}


@pytest.mark.parametrize("speed", [1.0, 1.6])
def test_the_items_of_a_stream_tell_each_piece_once(tiny_engine: HiggsAudioEngine, speed: float) -> None:
    with serving(tiny_engine) as service:
        *parts, final = asyncio.run(items(service, {**JOB, "speed": speed}))
    told = told_by(parts)
    assert list(told.values()) == TEXTS == [chunk["text"] for chunk in final["chunks"]]
    for at, chunk in zip(told, final["chunks"], strict=True):
        assert at == pytest.approx(chunk["start_seconds"], abs=0.001)
    assert parts[0]["start_seconds"] == 0
    assert not any(base64.b64decode(parts[0]["audio_base64"]))  # the pause before the first sound, at once
    audio = np.frombuffer(b"".join(base64.b64decode(part["audio_base64"]) for part in parts), "<i2")
    assert len(audio) == round(final["duration_seconds"] * 24_000)
    first, second, _ = final["chunks"]
    assert first["start_seconds"] == 1.0
    assert second["start_seconds"] == pytest.approx(first["end_seconds"] + 0.5)
    assert not audio[-48_000:].any()


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus", "flac"])
def test_an_encoder_that_holds_audio_back_loses_no_text(tiny_engine: HiggsAudioEngine, audio_format: str) -> None:
    with serving(tiny_engine) as service:
        *parts, final = asyncio.run(items(service, {**JOB, "response_format": audio_format}))
    told = told_by(parts)
    assert " ".join(told.values()) == " ".join(TEXTS)
    if audio_format != "flac":  # which comes whole at the end
        for at, chunk in zip(told, final["chunks"], strict=True):
            assert -0.001 <= chunk["start_seconds"] - at <= 1.1  # a page of Ogg has up to a second


def test_a_piece_that_was_spoken_beside_others_is_told_too(tiny_engine: HiggsAudioEngine) -> None:
    clip = base64.b64encode(wav_of_noise()).decode()
    references = [{"audio_base64": clip, "transcript": "Noise."}]
    with serving(tiny_engine) as service:
        job = {**JOB, "references": references, "chunk_parallel": True, "retries": 1}
        *parts, final = asyncio.run(items(service, job))
    assert list(told_by(parts).values()) == TEXTS
    assert not any("chunk_parallel" in warning for warning in final["warnings"])


def wav_of_noise() -> bytes:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    return encode_audio(noise, "wav", "pcm_16")


def test_lines_and_events_tell_it_over_http(server: Running) -> None:
    lines = [json.loads(line) for line in server.generate(JOB).text.splitlines()]
    assert list(told_by(lines[:-1]).values()) == TEXTS
    body = {"input": JOB["script"], "voice": "default", "stream_format": "sse", "response_format": "pcm"}
    body |= {name: JOB[name] for name in ("chunk_method", "chunk_max_word_num", "max_new_tokens", "seed")}
    answer = requests.post(f"{server.url}/v1/audio/speech", json=body, timeout=PATIENCE)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    deltas = [event for event in events if event["type"] == "speech.audio.delta"]
    assert [event["text"] for event in deltas if "text" in event] == TEXTS
    assert "text" not in deltas[0]
    assert events[-1]["type"] == "speech.audio.done"
