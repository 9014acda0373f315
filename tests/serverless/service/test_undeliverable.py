"""Work on a result stops as soon as the result can fit nowhere, and never before."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import DeliveryError
from higgs_core.speech.result import SpeechResult
from serverless.config.settings import Settings
from serverless.delivery.deliver import Delivery
from serverless.delivery.least_size import least_result_bytes
from serverless.delivery.serialise import serialised_bytes
from serverless.payload.parse import OutputOptions, parse_job
from serverless.service.effects import with_effects
from tests.helpers.service import answer, items, serving

PIECES = 12
JOB = {
    "script": " ".join(f"Piece number {i} comes now." for i in range(PIECES)),
    "chunk_method": "sentence",
    "chunk_max_word_num": 5,
    "generation_chunk_buffer_size": 0,
    "max_new_tokens": 40,
    "trim": False,
    "seed": 1,
}
BUCKET = {"bucket_name": "speech", "bucket_access_key_id": "id", "bucket_secret_access_key": "secret"}


def spoken(engine: Any, job: dict[str, Any], *, streamed: bool = False, **limits: Any) -> tuple[dict[str, Any], int]:
    """The answer, or the last item of the stream, and how many pieces were generated for it."""
    generated = 0

    def count() -> None:
        nonlocal generated
        generated += 1

    with serving(engine, count, **limits) as service:
        if streamed:
            return asyncio.run(items(service, {**job, "stream": True}))[-1], generated
        return asyncio.run(answer(service, job)), generated


@pytest.mark.parametrize("delivery", ["auto", "inline"])
def test_a_result_that_fits_nowhere_is_not_generated_to_its_end(tiny_engine: HiggsAudioEngine, delivery: str) -> None:
    response, generated = spoken(tiny_engine, {**JOB, "delivery": delivery}, max_inline_bytes=200_000)
    assert response["code"] == "delivery_failed"
    assert response["field"] == "delivery"
    assert "was stopped after" in response["error"]
    assert "at most 0.2 MB can be returned inline" in response["error"]
    assert "mp3" in response["hint"]
    assert generated < PIECES / 2


def test_a_result_that_just_fits_is_generated_to_its_end(tiny_engine: HiggsAudioEngine) -> None:
    """The digits of its timings vary, so the limit stands a little above the size and then a little below."""
    job = {**JOB, "script": " ".join(f"Piece number {i} comes now." for i in range(4)), "return_audio_tokens": True}
    size = serialised_bytes(spoken(tiny_engine, job)[0])
    response, generated = spoken(tiny_engine, job, max_inline_bytes=size + 500)
    assert "audio_base64" in response
    assert generated == 4
    assert spoken(tiny_engine, job, max_inline_bytes=size - 500)[0]["code"] == "delivery_failed"


def test_a_stream_is_generated_to_its_end(tiny_engine: HiggsAudioEngine) -> None:
    last, generated = spoken(tiny_engine, JOB, streamed=True, max_inline_bytes=200_000)
    assert last["is_final"]
    assert generated == PIECES


def test_a_bucket_takes_what_is_too_large(tiny_engine: HiggsAudioEngine, store: str) -> None:
    response, generated = spoken(tiny_engine, JOB, max_inline_bytes=200_000, bucket_endpoint_url=store, **BUCKET)
    assert "audio_url" in response
    assert generated == PIECES


def test_tokens_that_are_too_many_beside_a_link_stop_it_too(tiny_engine: HiggsAudioEngine, store: str) -> None:
    job = {**JOB, "return_audio_tokens": True}
    response, generated = spoken(tiny_engine, job, max_inline_bytes=4_000, bucket_endpoint_url=store, **BUCKET)
    assert response["code"] == "delivery_failed"
    assert "return_audio_tokens" in response["hint"]
    assert generated < PIECES


def test_a_text_that_is_too_much_is_refused_before_its_clips_are_fetched(tiny_engine: HiggsAudioEngine) -> None:
    """Its clip could not be read: that it is not what the answer says shows that nobody tried."""
    job = {"references": [{"path": "/nowhere/clip.wav"}], "chunk_method": "word", "chunk_max_word_num": 1}
    many, generated = spoken(tiny_engine, {**job, "script": "word " * 600})
    assert many["error"] == "script makes 600 pieces; allowed is at most 512."
    assert generated == 0
    assert spoken(tiny_engine, {**job, "script": "word"})[0]["code"] == "invalid_reference"
    streamed, _ = spoken(tiny_engine, {**job, "script": "word " * 600}, streamed=True)
    assert streamed["code"] == "invalid_request"


def output_of(**fields: Any) -> OutputOptions:
    return parse_job({"script": "Hello.", **fields}, Settings()).output


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("seconds", [0.04, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("pause", [0, 240_000])
def test_the_least_size_holds_at_any_speed(speed: float, seconds: float, pause: int) -> None:
    speech = np.sin(np.arange(int(seconds * 24_000)) / 9).astype(np.float32)
    audio = np.append(speech, np.zeros(pause, np.float32))
    pauses = ((len(speech), len(audio)),) if pause else ()
    output = output_of(speed=speed, response_format="pcm")
    result = SpeechResult(audio, 24_000, [], "", [], {}, "stop", 1, {}, (), (), pauses=pauses)
    stretched = with_effects(result, output).audio
    least = least_result_bytes(output, len(speech), pause, inline=True)
    assert least <= 4 * -(-2 * len(stretched) // 3) + 40
    if seconds >= 20:
        assert least > 0.95 * 4 * 2 * len(stretched) / 3


def test_only_what_must_be_in_the_answer_counts() -> None:
    minute = 60 * 24_000
    delivery = Delivery(Settings(max_inline_bytes=1_000_000))
    with pytest.raises(DeliveryError, match=r"was stopped after 60 s of speech: it is at least 3\.8 MB"):
        delivery.check_partial(output_of(), minute // 2, minute // 2, None)
    for fields in ({"response_format": "opus"}, {"response_format": "flac"}, {"speed": 4, "response_format": "mp3"}):
        delivery.check_partial(output_of(**fields), minute, 0, None)
    assert least_result_bytes(output_of(), minute, 0, inline=False) == 0
    with_tokens = output_of(return_audio_tokens=True)
    assert least_result_bytes(with_tokens, minute, 0, inline=False) == 36_000
    assert least_result_bytes(with_tokens, minute, minute, inline=False) == 36_000  # a pause has none


def test_pauses_have_no_tokens_that_could_be_too_many(tiny_engine: HiggsAudioEngine, store: str) -> None:
    """The speech has 2.5 s, its pauses have 30 s, whose tokens would have 18 kB."""
    script = " [pause 10s] ".join(f"Piece number {i}." for i in range(4))
    job = {**JOB, "script": script, "max_new_tokens": 25, "return_audio_tokens": True}
    response, generated = spoken(tiny_engine, job, max_inline_bytes=12_000, bucket_endpoint_url=store, **BUCKET)
    assert "audio_url" in response
    assert generated == 4
