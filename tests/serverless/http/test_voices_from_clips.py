"""Voices over HTTP that are added from a clip."""

from __future__ import annotations

import base64
import io
import threading
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.audio import encode_audio
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.helpers.voice_routes import DATA, FACTS, SPEECH, WORDS, add, delete, get, refused, upload


def test_a_clip_becomes_a_voice_that_speaks_and_goes_again(worker: Running) -> None:
    answer = upload(worker, speaker_description="calm")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True
    assert body["warnings"] == []
    voice = body["voice"]
    assert set(voice) > FACTS
    assert (voice["id"], voice["name"], voice["source"]) == ("anna", "Anna", "uploaded")
    assert voice["deletable"] is True
    assert voice["created_at"] > 0
    assert (voice["consent"], voice["mime_type"], voice["file_size"]) == ("I am the speaker.", "audio/wav", len(DATA))
    assert (voice["ref_text"], voice["speaker_description"]) == (WORDS, "calm")
    listed = get(worker).json()
    assert [each["id"] for each in listed["uploaded_voices"]] == ["anna"]

    spoken = worker.generate({"script": "Hello.", "voice": "anna", "seed": 1, "max_new_tokens": 30}).json()
    cloned = {"audio_base64": _base64(DATA), "transcript": WORDS}
    same = worker.generate({"script": "Hello.", "references": [cloned], "seed": 1, "max_new_tokens": 30}).json()
    assert spoken["audio_base64"] == same["audio_base64"]
    preview, _ = soundfile.read(io.BytesIO(get(worker, "/anna/preview").content), dtype="float32")
    np.testing.assert_allclose(preview, SPEECH, atol=1e-4)

    gone = delete(worker, "anna")
    assert (gone.status_code, gone.json()["success"]) == (200, True)
    assert "message" in gone.json()
    assert get(worker, "/anna").status_code == 404
    refused(delete(worker, "anna"), 404)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_clip_without_its_words_is_taken_and_what_was_done_to_it_is_said(worker: Running) -> None:
    padded = encode_audio(np.concatenate([np.zeros(40_000, np.float32), SPEECH]), "flac")
    body = upload(worker, padded, "clip.flac", ref_text=None).json()
    assert body["warnings"] == [
        "audio_sample: 1.5 s of silence were cut.",
        "ref_text is missing: with the words of the clip the copy comes closer.",
    ]
    assert (body["voice"]["mime_type"], body["voice"]["transcript"]) == ("audio/flac", None)
    assert worker.generate({"script": "Hello.", "voice": "anna", "max_new_tokens": 30}).status_code == 200
    fresh = SpeechService(worker.service.settings)
    fresh.voices.open()
    assert fresh.voices.snapshot()["anna"].transcript == ""
    fresh.close()


@pytest.mark.parametrize(
    ("texts", "field", "said"),
    [
        ({"consent": None}, "consent", "consent is missing."),
        ({"consent": " "}, "consent", "consent is missing."),
        ({"consent": "false"}, "consent", "consent is refused; a voice is kept only if its speaker agrees."),
        ({"name": None}, "name", "name is missing."),
        ({"name": "../../etc/passwd"}, "name", "name is not allowed"),
        ({"name": "a\0b"}, "name", "name is not allowed"),
        ({"name": "default"}, "name", "name is not allowed"),
        ({"name": "a" * 65}, "name", "name is not allowed"),
        ({"name": "ann\u0430"}, "name", "name is not allowed"),
        ({"ref_text": "x" * 5_001}, "ref_text", "ref_text is a text of 5001 characters"),
        ({"ref_text": "a\0b"}, "ref_text", "ref_text is a text of 3 characters"),
        ({"speaker_description": "x" * 1_001}, "speaker_description", "speaker_description is a text"),
    ],
)
def test_texts_that_are_not_allowed_are_named(worker: Running, texts: dict[str, Any], field: str, said: str) -> None:
    answer = upload(worker, **texts)
    assert refused(answer, 400).startswith(said)
    assert answer.json()["field"] == field
    assert get(worker).json()["uploaded_voices"] == []


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (b"", "audio_sample is missing."),
        (b"<html>", "audio_sample is a page or text, not audio."),
        (encode_audio(np.zeros(48_000, np.float32), "wav"), "audio_sample is silent."),
        (encode_audio(np.full(48_000, 0.5, np.float32), "wav"), "audio_sample is silent."),
        (encode_audio(SPEECH[:16_000], "wav"), "audio_sample has 0.6 s of sound; at least 1 s are needed."),
        (encode_audio(np.concatenate([SPEECH[:16_000], np.zeros(48_000)]), "wav"), "audio_sample has 0.7 s of sound"),
        (encode_audio(np.tile(SPEECH, 20), "wav"), "audio_sample lasts longer than 60 s."),
        (encode_audio(np.zeros(24_000 * 3600, np.float32), "opus"), "audio_sample lasts longer than 60 s."),
    ],
)
def test_a_clip_that_cannot_become_a_voice_is_refused(worker: Running, clip: bytes, said: str) -> None:
    assert refused(upload(worker, clip), 400).startswith(said)
    assert get(worker).json()["uploaded_voices"] == []


@pytest.mark.parametrize("name", ["belinda", "alloy", "ALLOY", "Belinda"])
def test_a_name_that_is_taken_is_a_conflict(worker: Running, name: str) -> None:
    answer = upload(worker, name=name)
    assert "already" in refused(answer, 409)
    assert answer.json()["error_type"] == "VoiceExistsError"
    assert "already" in refused(add(worker, name=name, description="calm"), 409)


def test_a_full_library_says_so(worker: Running) -> None:
    assert upload(worker, name="one").status_code == upload(worker, name="two").status_code == 200
    assert "at most 2" in refused(upload(worker, name="three"), 507)
    assert delete(worker, "one").status_code == 200
    assert upload(worker, name="three").status_code == 200


def test_equal_names_at_the_same_moment_are_one_voice(worker: Running) -> None:
    answers: list[int] = []
    together = threading.Barrier(4)

    def send() -> None:
        together.wait(PATIENCE)
        answers.append(upload(worker, name="twin").status_code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(answers) == [200, 409, 409, 409]
