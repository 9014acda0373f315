"""Voices over HTTP that are added from words and from codes, and removed."""

from __future__ import annotations

import io
from typing import Any

import pytest
import soundfile

from higgs_core import HiggsAudioEngine
from higgs_core.errors import DeviceMemoryError
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.service import SharedEngine
from tests.helpers.voice_routes import add, delete, get, refused


def test_a_description_becomes_a_voice_and_its_seed_is_told(worker: Running) -> None:
    body = add(worker, name="calm", description="feminine, calm, slow").json()
    voice = body["voice"]
    assert body["success"] is True
    assert (voice["source"], voice["ready"], voice["deletable"]) == ("designed", True, True)
    assert voice["description"] == "feminine, calm, slow"
    assert delete(worker, "calm").status_code == 200
    again = add(worker, name="calm2", description="feminine, calm, slow", seed=voice["seed"]).json()
    assert again["voice"]["seed"] == voice["seed"]


def test_a_voice_that_finds_too_little_device_memory_is_made_again(tiny_engine: HiggsAudioEngine) -> None:
    tries: list[None] = []

    def full_at_times() -> None:
        tries.append(None)
        if len(tries) % 2:
            raise DeviceMemoryError("The device is out of memory.")

    settings = Settings(model_id="tiny", device="cpu")
    service = SpeechService(settings, boot=lambda _: SharedEngine(tiny_engine, full_at_times))  # type: ignore[arg-type, return-value]
    with serving_http(settings, service) as worker:
        assert add(worker, name="anna", description="A calm voice.", seed=7).status_code == 200
        assert get(worker, "/onyx/preview").status_code == 200
    assert len(tries) == 4


def test_a_result_becomes_a_voice(worker: Running) -> None:
    result = worker.generate({"script": "Hello.", "return_audio_tokens": True, "seed": 4, "max_new_tokens": 60}).json()
    codes = result["generated_audio_tokens"]
    body = add(worker, name="kept", audio_tokens=codes, transcript="Hello.").json()
    assert body["voice"]["source"] == "saved"
    assert body["warnings"] == []
    preview, _ = soundfile.read(io.BytesIO(get(worker, "/kept/preview").content))
    assert len(preview) == len(codes[0]) * 960
    assert worker.generate({"script": "Again.", "voice": "kept", "max_new_tokens": 30}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"name": "x"}, None),
        ({"description": "calm"}, "name"),
        ({"name": "x", "description": "calm", "seed": -1}, "seed"),
        ({"name": "x", "description": ["calm"]}, "description"),
        ({"name": {"$ne": 1}, "description": "calm"}, "name"),
        ({"name": "x", "audio_tokens": [[1] * 30] * 8}, "transcript"),
        ({"name": "x", "audio_tokens": [[1] * 30] * 7, "transcript": "a"}, "audio_tokens"),
        ({"name": "x", "audio_tokens": [[1024] * 30] * 8, "transcript": "a"}, "audio_tokens[0]"),
        ({"name": "x", "audio_tokens": [[1] * 2000] * 8, "transcript": "a"}, "audio_tokens[0]"),
        ({"name": "x", "audio_tokens": "abc", "transcript": "a"}, "audio_tokens"),
    ],
)
def test_what_describes_no_voice_is_refused(worker: Running, body: dict[str, Any], field: str | None) -> None:
    answer = add(worker, **body)
    refused(answer, 400)
    assert answer.json().get("field") == field


@pytest.mark.parametrize("name", ["alloy", "belinda"])
def test_what_the_operator_owns_cannot_be_deleted(worker: Running, name: str) -> None:
    assert "cannot be deleted" in refused(delete(worker, name), 403)
    assert get(worker, f"/{name}").status_code == 200


@pytest.mark.parametrize("name", ["nobody", "default", "%00", "..%2Fbelinda.wav", "a" * 5_000])
def test_deleting_what_is_no_voice_is_a_404(worker: Running, name: str) -> None:
    assert "passwd" not in refused(delete(worker, name), 404)
