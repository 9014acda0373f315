"""Voices over HTTP: listed, heard, added from a clip, from words and from codes, and removed."""

from __future__ import annotations

import base64
import io
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import soundfile
from fastapi.testclient import TestClient

from higgs_core import HiggsAudioEngine
from higgs_core.audio import encode_audio
from higgs_core.errors import DeviceMemoryError
from serverless.config.settings import Settings
from serverless.http import forms
from serverless.http.app import create_app
from serverless.service.service import SpeechService
from tests.helpers.http_server import Running, serving_http
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.raw_http import connected, read_all
from tests.helpers.service import SharedEngine
from tests.helpers.voices import voice_folder

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


@pytest.fixture
def worker(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> Iterator[Running]:
    """A server with a writable library of one voice, belinda, around the shared engine."""
    settings = Settings(model_id="tiny", device="cpu", voices_dir=voice_folder(tmp_path), max_saved_voices=2)
    service = SpeechService(settings, boot=lambda _: SharedEngine(tiny_engine))  # type: ignore[arg-type, return-value]
    with serving_http(settings, service) as running:
        yield running


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


# -- The list ---------------------------------------------------------------------------------------------------------


def test_every_voice_is_listed_with_where_it_comes_from(worker: Running) -> None:
    answer = get(worker).json()
    assert answer["object"] == "list"
    assert answer["data"] == answer["voices"]
    assert answer["uploaded_voices"] == []
    first, *others = answer["voices"]
    assert (first["id"], first["name"], first["source"], first["preview_url"]) == ("default", "Default", "model", None)
    by_id = {voice["id"]: voice for voice in others}
    assert set(by_id) == {"belinda", *SHIPPED}
    for name, voice in by_id.items():
        assert set(voice) == FACTS
        assert voice["object"] == "voice"
        assert voice["preview_url"] == f"{ROUTE}/{name}/preview"
        assert voice["deletable"] is False
    assert (by_id["alloy"]["name"], by_id["alloy"]["source"]) == ("Alloy", "shipped")
    assert by_id["alloy"]["description"]
    assert (by_id["belinda"]["source"], by_id["belinda"]["transcript"]) == ("folder", "A tone of one second.")


def test_open_webui_and_older_clients_read_it(worker: Running) -> None:
    assert {voice["id"]: voice["name"] for voice in get(worker).json()["voices"]}["nova"] == "Nova"
    names = get(worker, params={"legacy": "true"}).json()
    assert set(names) == {"voices"}
    assert names["voices"][0] == "default"
    assert {"belinda"} | SHIPPED < set(names["voices"])


def test_one_voice_is_told_as_in_the_list_and_an_unknown_one_not_at_all(worker: Running) -> None:
    listed = {voice["id"]: voice for voice in get(worker).json()["voices"]}
    assert get(worker, "/belinda").json() == listed["belinda"]
    assert get(worker, "/default").json() == listed["default"]
    missing = get(worker, "/belinde")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "voice_not_found"


# -- The preview ------------------------------------------------------------------------------------------------------


def test_a_preview_is_a_wav_file_that_a_browser_may_keep_for_a_while(worker: Running) -> None:
    answer = get(worker, "/belinda/preview")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "audio/wav")
    audio, rate = soundfile.read(io.BytesIO(answer.content))
    assert (len(audio), rate) == (24_000, 24_000)
    assert re.fullmatch(r"private, max-age=\d+", answer.headers["Cache-Control"])
    again = get(worker, "/belinda/preview", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_preview_of_a_designed_voice_makes_it(worker: Running) -> None:
    assert get(worker, "/onyx").json()["ready"] is False
    audio, _ = soundfile.read(io.BytesIO(get(worker, "/onyx/preview").content))
    assert len(audio) > 0
    assert get(worker, "/onyx").json()["ready"] is True


@pytest.mark.parametrize("name", ["default", "nobody", "%00", "..%2F..%2Fetc%2Fpasswd"])
def test_what_is_no_voice_has_no_preview(worker: Running, name: str) -> None:
    answer = get(worker, f"/{name}/preview")
    assert answer.status_code == 404
    assert "passwd" not in answer.text


# -- From a clip ------------------------------------------------------------------------------------------------------


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
    assert "already" in refused(upload(worker, name=name), 409)
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


# -- From words and from codes ----------------------------------------------------------------------------------------


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


# -- Who may ----------------------------------------------------------------------------------------------------------


def test_all_of_it_is_behind_the_key(worker: Running) -> None:
    settings = worker.service.settings.model_copy(update={"api_key": Settings(api_key=KEY).api_key})
    locked = TestClient(create_app(worker.service, settings), raise_server_exceptions=False)
    for method, path in (("GET", ""), ("GET", "/alloy"), ("GET", "/alloy/preview"), ("POST", ""), ("DELETE", "/alloy")):
        assert locked.request(method, ROUTE + path).status_code == 401
        opened = locked.request(method, ROUTE + path, headers={"Authorization": f"Bearer {KEY}"})
        assert opened.status_code != 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://a.example", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_unread(worker: Running, headers: dict[str, str]) -> None:
    answer = requests.post(
        f"{worker.url}{ROUTE}", data=TEXTS, files={"audio_sample": DATA}, headers=headers, timeout=PATIENCE
    )
    refused(answer, 403)


def test_a_form_of_the_workers_own_page_is_taken_whatever_a_proxy_calls_its_host(worker: Running) -> None:
    for name, headers in (
        ("one", {"Origin": worker.url}),
        ("two", {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}),
    ):
        answer = requests.post(
            f"{worker.url}{ROUTE}",
            data=TEXTS | {"name": name},
            files={"audio_sample": DATA},
            headers=headers,
            timeout=PATIENCE,
        )
        assert answer.status_code == 200


# -- Hostile forms ----------------------------------------------------------------------------------------------------

BOUNDARY = b"limit"
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}


def part(head: bytes, data: bytes = b"x") -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"


def text(name: str, data: bytes = b"x") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name.encode() + b'"', data)


END = b"--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no form at all", id="no form"),
        pytest.param(text("name"), id="cut off"),
        pytest.param(text("name")[:-9], id="cut off in a part"),
        pytest.param(END, id="no parts"),
        pytest.param(text("name") * 2 + END, id="twice"),
        pytest.param(b"".join(text(f"f{at}") for at in range(10_000)) + END, id="10 000 parts"),
        pytest.param(part(b"Content-Disposition: form-data") + END, id="no name"),
        pytest.param(part(b'Content-Disposition: attachment; name="name"') + END, id="no form-data"),
        pytest.param(part(b"Content-Type: text/plain") + END, id="no disposition"),
        pytest.param(part(b'X: y\r\nContent-Disposition: form-data; name="\xff\xfe"') + END, id="name is no text"),
        pytest.param(text("name", b"\xff\xfe\x00") + END, id="text is no text"),
        pytest.param(part(b'Content-Disposition: form-data; name="name"; filename="x"') + END, id="text as a file"),
        pytest.param(part(b"A: " + b"x" * 100_000) + END, id="huge header"),
        pytest.param(part(b"\r\n".join(b"A%d: x" % at for at in range(1_000))) + END, id="many headers"),
        pytest.param(b"\r\n--limit" * 100_000, id="boundaries alone"),
    ],
)
def test_what_is_no_form_is_the_callers_fault(worker: Running, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = requests.post(f"{worker.url}{ROUTE}", data=body, headers=FORM, timeout=PATIENCE)
    refused(answer, 400)
    assert "multipart" not in " ".join(record.name for record in caplog.records)


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 71}", '; boundary="'])
def test_a_form_without_a_sound_boundary_is_refused(worker: Running, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}
    answer = requests.post(f"{worker.url}{ROUTE}", data=text("name") + END, headers=headers, timeout=PATIENCE)
    refused(answer, 400)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "audio/wav"])
def test_another_type_of_body_is_refused(worker: Running, kind: str) -> None:
    answer = requests.post(f"{worker.url}{ROUTE}", data=DATA, headers={"Content-Type": kind}, timeout=PATIENCE)
    assert "neither a form nor JSON" in refused(answer, 415)


def test_a_file_or_a_text_over_its_limit_is_refused(worker: Running) -> None:
    assert "audio_sample has more than 10 MB." in refused(upload(worker, bytes(forms.MAX_FILE_BYTES + 1)), 413)
    assert "over the limit" in refused(upload(worker, bytes(forms.MAX_FORM_BYTES)), 413)
    assert refused(upload(worker, ref_text="x" * 40_000), 413).startswith("ref_text has more than")


def test_a_form_without_an_end_is_cut_off(worker: Running) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\nTransfer-Encoding: chunked"
    with connected(worker.url) as raw:
        raw.sendall(head.encode() + b"\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        sent = 0
        try:
            while sent < 6 * forms.MAX_FORM_BYTES:
                raw.sendall(piece)
                sent += 0x10000
        except OSError:
            pass  # the server has hung up
        answer = read_all(raw)
    assert sent < 6 * forms.MAX_FORM_BYTES
    assert answer == b"" or b" 413 " in answer.split(b"\r\n")[0]
    wait_until(lambda: worker.app.state.bodies.budget.total == 0)


def test_parts_of_unknown_fields_are_ignored_and_counted(worker: Running) -> None:
    body = upload(worker, colour="blue", size="4").json()
    assert body["warnings"] == ["2 parts of the form were ignored, as no field has their name."]


def test_a_name_of_a_file_is_never_used_as_one(worker: Running, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.parent.iterdir()}
    assert upload(worker, filename="../../evil.wav").status_code == 200
    assert {path.name for path in tmp_path.parent.iterdir()} == before
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert "evil" not in get(worker).text


def test_nothing_of_a_voice_is_logged(worker: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        upload(worker, name="secretname", consent="secretconsent", ref_text="secretwords")
        upload(worker, name="secretname", consent="secretconsent")
        delete(worker, "secretname")
        delete(worker, "secretname")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "added" in line]
    assert [line for line in lines if "code=voice_not_found" in line]
    assert [line for line in lines if "code=voice_exists" in line]
    assert not [line for line in lines if "secret" in line]
