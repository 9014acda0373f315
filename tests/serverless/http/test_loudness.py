"""The bytes that a client gets have the loudness that it asked for, by the standard's meter, at both doors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import requests
from numpy.typing import NDArray

from higgs_core import HiggsAudioEngine
from higgs_core.audio.loudness import gain_to
from tests.helpers.audio import decoded
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.helpers.service import answer, items, serving

JOB = {"script": "One sentence to be heard, and then another one. " * 4, "seed": 11, "max_new_tokens": 150}
TARGET = -27.0


def lufs(audio: NDArray[Any]) -> float:
    return float(pyloudnorm.Meter(24_000).integrated_loudness(audio.astype(np.float64)))


@pytest.fixture(scope="module")
def queue(tiny_engine: HiggsAudioEngine) -> Iterator[Any]:
    with serving(tiny_engine) as service:
        yield service


@pytest.mark.parametrize("fmt", ["wav", "flac", "mp3", "pcm"])
def test_a_whole_answer_has_its_loudness(queue: Any, shared_server: Running, fmt: str) -> None:
    job = {**JOB, "loudness": TARGET, "speed": 1.2, "response_format": fmt}
    for result in (asyncio.run(answer(queue, job)), shared_server.generate(job).json()):
        assert lufs(decoded(base64.b64decode(result["audio_base64"]), fmt)) == pytest.approx(TARGET, abs=0.5)
        assert not [warning for warning in result["warnings"] if "loudness" in warning]


def test_flac_in_a_stream_is_measured_as_a_whole(queue: Any, shared_server: Running) -> None:
    job = {**JOB, "loudness": TARGET, "response_format": "flac", "stream": True}
    *parts, _ = asyncio.run(items(queue, job))
    data = b"".join(base64.b64decode(part["audio_base64"]) for part in parts)
    assert lufs(decoded(data, "flac")) == pytest.approx(TARGET, abs=0.5)
    body = {"input": JOB["script"], **{name: JOB[name] for name in ("seed", "max_new_tokens")}}
    body |= {"response_format": "flac", "loudness": TARGET}
    spoken = requests.post(f"{shared_server.url}/v1/audio/speech", json=body, timeout=PATIENCE)
    assert lufs(decoded(spoken.content, "flac")) == pytest.approx(TARGET, abs=0.5)


def test_a_stream_has_one_gain_from_its_first_to_its_last_byte(queue: Any) -> None:
    job = {**JOB, "response_format": "wav", "wav_encoding": "float32", "stream": True}

    def joined(**more: Any) -> NDArray[Any]:
        *parts, _ = asyncio.run(items(queue, {**job, **more}))
        return decoded(b"".join(base64.b64decode(part["audio_base64"]) for part in parts), "wav")

    plain = joined()
    louder = joined(loudness=TARGET)
    found = gain_to(plain[:72_000], TARGET)
    assert found is not None
    np.testing.assert_allclose(louder, plain * 10 ** (found[0] / 20), atol=1e-6)


@pytest.mark.parametrize("loudness", [-31, -9, 0, "loud", True])
def test_another_loudness_is_refused_by_name(queue: Any, loudness: object) -> None:
    refused = asyncio.run(answer(queue, {**JOB, "loudness": loudness}))
    assert refused["field"] == "loudness"
    assert refused["error"].endswith("allowed is -30 to -10.")


def test_an_item_of_a_batch_is_measured_as_a_whole(shared_server: Running) -> None:
    """Its first seconds, half of them a pause, measure otherwise than all of it."""
    job = {**JOB, "script": "One. [pause 2s] And a sentence.", "loudness": -10, "response_format": "wav"}
    job |= {"wav_encoding": "float32", "chunk_max_word_num": 10}

    def streamed() -> NDArray[Any]:
        lines = [json.loads(line) for line in shared_server.generate({**job, "stream": True}).text.splitlines()]
        return decoded(b"".join(base64.b64decode(line.get("audio_base64", "")) for line in lines), "wav")

    whole = decoded(base64.b64decode(shared_server.generate(job).json()["audio_base64"]), "wav")
    assert not np.allclose(streamed(), whole, atol=1e-3)
    item = {("input" if name == "script" else name): value for name, value in job.items()}
    batch = requests.post(f"{shared_server.url}/v1/audio/speech/batch", json={"items": [item]}, timeout=PATIENCE)
    (entry,) = batch.json()["results"]
    np.testing.assert_allclose(decoded(base64.b64decode(entry["audio_data"]), "wav"), whole, atol=1e-6)
