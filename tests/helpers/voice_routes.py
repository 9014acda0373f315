"""Requests to the routes of voices."""

from __future__ import annotations

from typing import Any

import requests
import soundfile

from tests.helpers.http_server import Running
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE

KEY = "correct horse battery staple"
ROUTE = "/v1/audio/voices"
DATA = CLIP.read_bytes()
WORDS = (CLIP.parent / "reference.txt").read_text().strip()
SPEECH = soundfile.read(CLIP, dtype="float32")[0]
SHIPPED = {
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
}
FACTS = {
    *("id", "name", "object", "source", "description", "transcript", "ready", "deletable", "created_at", "preview_url")
}
TEXTS = {"name": "anna", "consent": "I am the speaker.", "ref_text": WORDS}


def get(worker: Running, path: str = "", **options: Any) -> requests.Response:
    return requests.get(f"{worker.url}{ROUTE}{path}", timeout=PATIENCE, **options)


def upload(worker: Running, data: bytes = DATA, filename: str = "anna.wav", **texts: Any) -> requests.Response:
    """texts: None leaves a field out."""
    fields = {name: text for name, text in (TEXTS | texts).items() if text is not None}
    files = {"audio_sample": (filename, data, "audio/wav")}
    return requests.post(f"{worker.url}{ROUTE}", data=fields, files=files, timeout=PATIENCE)


def add(worker: Running, **body: Any) -> requests.Response:
    return requests.post(f"{worker.url}{ROUTE}", json=body, timeout=PATIENCE)


def delete(worker: Running, name: str) -> requests.Response:
    return requests.delete(f"{worker.url}{ROUTE}/{name}", timeout=PATIENCE)


def refused(answer: requests.Response, status: int) -> str:
    """The sentence of a refusal in the shape of the voices' routes."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["success"] is False
    for leak in ("Traceback", "/tmp", "site-packages"):
        assert leak not in answer.text
    sentence = body["error"]
    assert isinstance(sentence, str)
    return sentence
