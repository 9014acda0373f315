"""Speech of a sample or of a single frame is a file that can be played, in every format, whole and in parts."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.audio import FORMATS, StreamEncoder, decode_audio, encode_audio, is_available
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import SpeechChunk
from serverless.config.settings import Settings
from serverless.payload.parse import parse_job
from serverless.service.effects import chunks_with_effects, with_effects
from tests.helpers.service import answer, items, serving

SPEEDS = [1.0, 0.25, 1.5, 4.0]
ONE_FRAME = {"script": "Hello.", "seed": 4, "retries": 0}


def result_of(samples: int) -> SpeechResult:
    audio = np.cos(np.arange(samples) / 20).astype(np.float32) * 0.3
    return SpeechResult(audio, 24_000, [], "", [], {}, "stop", 1, {}, (), ())


def playable(data: bytes, fmt: str) -> int:
    """The samples of an encoded file."""
    if fmt == "pcm":
        return len(data) // 2
    return len(decode_audio(data, origin="the result", min_seconds=0))


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("samples", [1, 2, 100, 959, 960, 2_400])
def test_the_shortest_audio_has_a_length_at_any_speed(samples: int, speed: float) -> None:
    output = parse_job({"script": "Hello.", "speed": speed}, Settings()).output
    whole = with_effects(result_of(samples), output)
    assert len(whole.audio) == max(1, round(samples / speed))
    assert np.isfinite(whole.audio).all()
    assert np.abs(whole.audio).max() > 0
    chunks = [
        SpeechChunk(whole_part, at, None) for at, whole_part in enumerate(np.array_split(result_of(samples).audio, 2))
    ]
    last = SpeechChunk(np.zeros(0, np.float32), samples, result_of(samples))
    parts = list(chunks_with_effects(iter([*chunks, last]), output))
    np.testing.assert_array_equal(np.concatenate([part.audio for part in parts]), whole.audio)


@pytest.mark.parametrize("fmt", [name for name in FORMATS if is_available(name)])
@pytest.mark.parametrize("samples", [1, 2, 960])
def test_the_shortest_audio_is_a_file_in_every_format(fmt: str, samples: int) -> None:
    audio = result_of(samples).audio
    assert playable(encode_audio(audio, fmt), fmt) >= samples
    encoder = StreamEncoder(fmt)
    data = encoder.write(audio) + encoder.finish()
    encoder.close()
    assert playable(data, fmt) >= samples


@pytest.mark.parametrize("fmt", [name for name in FORMATS if is_available(name)])
@pytest.mark.parametrize("trim", [False, True])
def test_a_job_of_one_frame_is_a_file_or_says_that_there_is_no_audio(
    tiny_engine: HiggsAudioEngine, fmt: str, trim: bool
) -> None:
    """From the fewest steps that are allowed; fewer are refused before anything is generated."""
    heard = 0
    with serving(tiny_engine) as service:
        for steps in (9, 10, 11):
            job = {**ONE_FRAME, "max_new_tokens": steps, "response_format": fmt, "trim": trim, "speed": SPEEDS[-1]}
            whole: dict[str, Any] = asyncio.run(answer(service, job))
            *parts, last = asyncio.run(items(service, {**job, "stream": True}))
            assert whole.get("code") == last.get("code")
            if whole.get("code") == "no_audio":
                continue
            assert playable(base64.b64decode(whole["audio_base64"]), fmt) >= 1
            assert playable(b"".join(base64.b64decode(part["audio_base64"]) for part in parts), fmt) >= 1
            assert whole["duration_seconds"] > 0
            heard += 1
    assert heard
