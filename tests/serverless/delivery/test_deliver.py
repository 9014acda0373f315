"""Inline, by S3, or a sentence: by the size that the platform will see."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests

from higgs_core import HiggsAudioEngine
from higgs_core.audio import FORMATS, decode_audio
from higgs_core.errors import DeliveryError, RequestError
from higgs_core.speech.result import SpeechResult
from serverless.config.settings import Settings
from serverless.delivery.deliver import Delivery
from serverless.delivery.response import SpeechResponse
from serverless.delivery.serialise import Json, base64_length, response_json, serialised_bytes
from serverless.payload.parse import parse_job
from serverless.service.service import SpeechService
from tests.helpers.loopback import Connection, Server
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import answer, items, serving
from tests.helpers.stores import refusal

KEYS = {"bucket_access_key_id": "key-id", "bucket_secret_access_key": "very-secret"}
JOB = {"script": "A short sentence.", "seed": 4, "max_new_tokens": 60}


@pytest.fixture
def loopback_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")


def settings(**fields: Any) -> Settings:
    return Settings(model_id="tiny", **fields)


def undelivered(mode: str = "auto", *, tokens: bool = False) -> SpeechResponse:
    """A finished job with words beyond ASCII; tokens: its codes are returned too."""
    codes = [np.ones((8, 4_000), np.int64)]
    audio = np.zeros(24_000, np.float32)
    speech = SpeechResult(audio, 24_000, codes, "Grüße, 世界", [], {"total_tokens": 3}, "stop", 1, {}, (), ())
    job = parse_job({"script": "Grüße", "delivery": mode, "return_audio_tokens": tokens}, settings())
    return SpeechResponse("job-1", job, speech, FORMATS["wav"], "tiny", {"total": 1.0}, ("noise",))


def audio_of(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def delivered(
    delivery: Delivery, size: int, *, mode: str = "auto", s3: dict[str, str] | None = None, **options: Any
) -> Json:
    """The response's JSON after its audio of so many bytes was delivered."""

    async def deliver() -> SpeechResponse:
        bucket = await delivery.bucket_for(mode, s3)
        return await delivery.deliver(undelivered(mode, **options), audio_of(size), bucket)

    return response_json(asyncio.run(deliver()))


def s3_config(store: str, **changes: str) -> dict[str, str]:
    return {"accessId": "id", "accessSecret": "secret", "bucketName": "speech", "endpointUrl": store, **changes}


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 100_001])
def test_the_size_is_known_before_anything_is_encoded(size: int) -> None:
    response = delivered(Delivery(settings()), size)
    posted = json.dumps({"output": response}, ensure_ascii=False).encode()
    before = serialised_bytes(response_json(undelivered()))
    assert before + base64_length(size) == len(posted) == serialised_bytes(response)
    assert base64.b64decode(response["audio_base64"]) == audio_of(size)


def test_the_limit_is_the_last_size_that_goes_inline() -> None:
    size = 3_000
    exact = serialised_bytes(response_json(undelivered())) + base64_length(size)
    assert "audio_base64" in delivered(Delivery(settings(max_inline_bytes=exact)), size, mode="inline")
    with pytest.raises(DeliveryError):
        delivered(Delivery(settings(max_inline_bytes=exact - 1)), size, mode="inline")


def test_a_result_that_fits_nowhere_says_how_large_it_is_and_what_helps() -> None:
    with pytest.raises(DeliveryError) as failure:
        delivered(Delivery(settings()), 15_000_000)
    assert failure.value.message == "The result is 20.0 MB and at most 18.0 MB can be returned inline."
    for remedy in ("BUCKET_*", "s3Config", "mp3"):
        assert remedy in (failure.value.hint or "")


def test_auto_uploads_only_what_is_too_large(store: str) -> None:
    delivery = Delivery(settings(max_inline_bytes=10_000, bucket_endpoint_url=store, bucket_name="speech", **KEYS))
    assert "audio_base64" in delivered(delivery, 3_000)
    response = delivered(delivery, 30_000)
    assert "audio_base64" not in response
    assert response["expires_at"].endswith("Z")
    assert requests.get(response["audio_url"], timeout=PATIENCE).content == audio_of(30_000)


def test_s3_uploads_what_would_fit_as_well(store: str) -> None:
    delivery = Delivery(settings(bucket_endpoint_url=store, bucket_name="speech", bucket_prefix="a/b", **KEYS))
    assert "/speech/a/b/job-1.wav" in delivered(delivery, 100, mode="s3")["audio_url"]


def test_a_failed_upload_falls_back_to_inline_with_a_warning(store: str) -> None:
    delivery = Delivery(settings(bucket_endpoint_url=store, bucket_name="nobodys", **KEYS))
    response = delivered(delivery, 100, mode="s3")
    assert base64.b64decode(response["audio_base64"]) == audio_of(100)
    assert "audio_url" not in response
    assert response["warnings"][0] == "noise"
    assert "NoSuchBucket" in response["warnings"][1]


def test_a_failed_upload_of_what_does_not_fit_is_an_error_with_both_reasons(store: str) -> None:
    delivery = Delivery(settings(max_inline_bytes=10_000, bucket_endpoint_url=store, bucket_name="nobodys", **KEYS))
    with pytest.raises(DeliveryError, match=r"NoSuchBucket.*0\.0 MB"):
        delivered(delivery, 30_000)


def test_tokens_too_large_to_return_beside_a_link_are_an_error(store: str) -> None:
    delivery = Delivery(settings(max_inline_bytes=10_000, bucket_endpoint_url=store, bucket_name="speech", **KEYS))
    with pytest.raises(DeliveryError) as failure:
        delivered(delivery, 100, tokens=True)
    assert "return_audio_tokens" in (failure.value.hint or "")


@pytest.mark.usefixtures("loopback_allowed")
def test_the_jobs_own_bucket_wins_over_the_workers(store: str) -> None:
    delivery = Delivery(settings(bucket_endpoint_url=store, bucket_name="nobodys", **KEYS))
    assert "/speech/job-1.wav" in delivered(delivery, 100, mode="s3", s3=s3_config(store))["audio_url"]


def test_s3_without_a_bucket_is_refused_before_any_work() -> None:
    with pytest.raises(RequestError) as failure:
        asyncio.run(Delivery(settings()).bucket_for("s3", None))
    assert failure.value.field == "delivery"


def _hangs_up(connection: Connection) -> None:
    connection.sock.close()


def _redirects(connection: Connection) -> None:
    connection.redirect("/again", "307 Temporary")


def _floods(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 800000000\r\n\r\n")
    while True:
        connection.send(bytes(2**16))


def _drips(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nX: ")
    connection.drip(b"x")


@pytest.mark.usefixtures("loopback_allowed")
@pytest.mark.parametrize("script", [_hangs_up, _redirects, _floods, _drips, refusal("403 Forbidden", "AccessDenied")])
@pytest.mark.parametrize("whose", ["worker", "job"])
def test_no_store_costs_speech_that_is_finished(script: Callable[[Connection], None], whose: str) -> None:
    with Server(script) as server:
        workers = {"bucket_endpoint_url": server.url, "bucket_name": "speech", **KEYS} if whose == "worker" else {}
        own = s3_config(server.url) if whose == "job" else None
        limits = {"max_upload_seconds": 1.0, "max_inline_bytes": 10_000}
        response = delivered(Delivery(settings(**workers, **limits)), 100, mode="s3", s3=own)
        assert base64.b64decode(response["audio_base64"]) == audio_of(100)
        with pytest.raises(DeliveryError, match=r"could not be uploaded .* too large to return inline"):
            delivered(Delivery(settings(**workers, **limits)), 30_000, mode="s3", s3=own)


@pytest.mark.usefixtures("loopback_allowed")
@pytest.mark.parametrize("stream", [False, True])
def test_a_job_that_is_cancelled_ends_its_upload(stream: bool, tiny_engine: HiggsAudioEngine) -> None:
    def script(connection: Connection) -> None:
        while connection.sock.recv(2**16):  # takes everything and never answers
            pass
        raise OSError

    async def cancelled(service: SpeechService) -> None:
        job = {**JOB, "delivery": "s3", "stream": stream}
        ask = items if stream else answer
        task = asyncio.create_task(ask(service, job, job_id="gone", s3_config=s3_config(server.url)))  # type: ignore[arg-type]
        await wait_until_async(lambda: bool(server.seen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_async(server.gone.is_set)
        assert service.stats()["in_flight"] == 0

    with Server(script) as server, serving(tiny_engine) as service:
        asyncio.run(cancelled(service))


@pytest.mark.usefixtures("loopback_allowed")
def test_an_oversize_job_reaches_its_bucket_and_the_link_plays(tiny_engine: HiggsAudioEngine, store: str) -> None:
    with serving(tiny_engine, max_inline_bytes=20_000) as service:
        job = {**JOB, "response_format": "flac"}
        response = asyncio.run(answer(service, job, job_id="big", s3_config=s3_config(store)))
        without = asyncio.run(answer(service, JOB, job_id="big"))
    fetched = requests.get(response["audio_url"], timeout=PATIENCE)
    audio = decode_audio(fetched.content, origin="link", min_seconds=0)
    assert fetched.headers["Content-Type"] == "audio/flac"
    assert len(audio) == round(response["duration_seconds"] * 24_000)
    assert without["code"] == "delivery_failed"


@pytest.mark.usefixtures("loopback_allowed")
def test_a_stream_delivered_by_s3_has_a_link_to_the_whole_file_in_its_last_item(
    tiny_engine: HiggsAudioEngine, store: str
) -> None:
    async def last(**options: Any) -> dict[str, Any]:
        job = {**JOB, "stream": True, **options}
        return (await items(service, job, job_id="streamed", s3_config=s3_config(store)))[-1]

    with serving(tiny_engine) as service:
        linked, plain = asyncio.run(last(delivery="s3")), asyncio.run(last())
    file = requests.get(linked["audio_url"], timeout=PATIENCE).content
    assert len(file) == 44 + 2 * round(linked["duration_seconds"] * 24_000)  # its header knows the length
    assert "audio_url" not in plain
