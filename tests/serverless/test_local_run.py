"""`python -m serverless.local_run`, in this process, with the real model and handler."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import soundfile

from higgs_core.built_in import TINY
from higgs_core.text.speech_length import speech_length
from serverless import local_run
from serverless.config.settings import Settings
from serverless.local.assets import PLACEHOLDER, allow, served, with_address
from serverless.payload.parse import parse_job
from serverless.references.voices import voice_library
from tests.helpers.paths import ASSETS, ROOT
from tests.helpers.patience import PATIENCE


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine where nothing is set but the tiny model; loggers are put back."""
    import os

    for name in os.environ:
        if name.startswith(("HIGGS_AUDIO_", "RUNPOD_", "BUCKET_")):
            monkeypatch.delenv(name)
    # Set first, so that what local_run puts into the environment goes with the test.
    for name in ("HIGGS_AUDIO_REFERENCE_DIRS", "HIGGS_AUDIO_VOICES_DIR", "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HIGGS_AUDIO_MODEL_ID", "tiny")
    monkeypatch.setenv("HIGGS_AUDIO_DEVICE", "cpu")
    monkeypatch.chdir(ROOT)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.getLogger("serverless.jobs").setLevel(logging.NOTSET)


def write(folder: Path, name: str, job: Any) -> str:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(job))
    return str(file)


def test_it_writes_playable_audio_the_response_and_one_line_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MAX_NEW_TOKENS", "80")  # the first seconds are enough
    names = ("plain", "clone_url", "clone_path", "voice", "flac")
    files = [str(ROOT / "test_inputs" / f"{name}.json") for name in names]
    assert local_run.main(["--output", str(tmp_path), *files]) == 0

    out = capsys.readouterr().out
    for name in names:
        about = json.loads((tmp_path / f"{name}.json").read_text())
        audio, rate = soundfile.read(tmp_path / f"{name}.{about['audio_format']}")
        assert rate == 24_000
        assert len(audio) == round(about["duration_seconds"] * 24_000)
        assert "audio_base64" not in about
        (line,) = (line for line in out.splitlines() if line.startswith(f"{name} "))
        assert f"{about['duration_seconds']:.2f} s of audio" in line
        assert f"{about['timings']['real_time_factor']:.3f}" in line
        assert f"{about['usage']['prompt_tokens']} + {about['usage']['completion_tokens']} tokens" in line
    assert f"{TINY.notice} MODEL=<hub id or folder> loads another." in out
    assert "5 of 5 jobs done" in out


def test_a_file_that_fails_is_named_and_the_exit_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        write(tmp_path, "good", {"input": {"script": "Hello.", "seed": 4, "max_new_tokens": 40}}),
        write(tmp_path, "wrong", {"input": {"script": "Hello.", "top_p": 3}}),
        write(tmp_path, "shapeless", {"script": "Hello."}),
        str(tmp_path / "missing.json"),
    ]
    assert local_run.main(["--output", str(tmp_path / "out"), *files]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "FAILED" not in lines[0]
    assert "FAILED: top_p" in lines[1]
    assert 'FAILED: the file does not hold {"input": {...}}.' in lines[2]
    assert "FAILED: the file cannot be read (FileNotFoundError)." in lines[3]
    assert "1 of 4 jobs done" in lines[-1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.json", "good.wav"]


def test_without_assets_beside_the_files_nothing_private_is_opened(tmp_path: Path) -> None:
    import os

    file = write(
        tmp_path, "inside", {"input": {"script": "Hi.", "references": [{"path": str(ASSETS / "reference.wav")}]}}
    )
    assert local_run.main(["--output", str(tmp_path), file]) == 1
    assert "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS" not in os.environ


def test_a_wrong_setting_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_TEMPERATURE", "hot")
    assert local_run.main([write(tmp_path, "good", {"input": {"script": "Hello."}})]) == 2
    assert capsys.readouterr().err == "HIGGS_AUDIO_TEMPERATURE is 'hot'; allowed is 0 (greedy) to 10.\n"


def test_the_operators_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("HIGGS_AUDIO_REFERENCE_DIRS", "/clips")
    monkeypatch.setenv("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "false")
    allow(ASSETS)
    assert os.environ["HIGGS_AUDIO_REFERENCE_DIRS"] == "/clips"
    assert os.environ["RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"] == "false"
    assert os.environ["HIGGS_AUDIO_VOICES_DIR"] == str(ASSETS)


def test_the_placeholder_is_replaced_wherever_it_begins_a_string() -> None:
    job = {"input": {"url": f"{PLACEHOLDER}a.wav", "list": [f"{PLACEHOLDER}b.wav", 3], "script": f"Say {PLACEHOLDER}"}}
    assert with_address(job, "http://127.0.0.1:5/") == {
        "input": {
            "url": "http://127.0.0.1:5/a.wav",
            "list": ["http://127.0.0.1:5/b.wav", 3],
            "script": f"Say {PLACEHOLDER}",
        }
    }


def test_the_assets_are_served_on_loopback_while_they_are_needed() -> None:
    with served(ASSETS) as address:
        assert (
            requests.get(f"{address}reference.wav", timeout=PATIENCE).content == (ASSETS / "reference.wav").read_bytes()
        )
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}reference.wav", timeout=PATIENCE)


def test_every_documented_shape_is_among_the_test_inputs() -> None:
    inputs = [json.loads(file.read_text())["input"] for file in sorted((ROOT / "test_inputs").glob("*.json"))]
    keys = {key for job in inputs for key in job}
    clips = {key for job in inputs for clip in _clips(job) for key in clip}
    assert {"script", "prompt", "transcript", "text", "messages", "dialogue", "openai_input", "scene_prompt"} <= keys
    assert {"reference_audio_urls", "reference_audio_base64", "reference_audio_path", "voice", "speakers"} <= keys
    assert {"audio_url", "audio_base64", "path", "transcript", "speaker_tag", "file_extension"} <= clips
    assert {job.get("response_format", "wav").lower() for job in inputs} == {"wav", "flac", "mp3", "opus", "pcm"}
    assert any(job.get("temperature") == 0 and "seed" in job for job in inputs)
    assert any(job.get("return_audio_tokens") for job in inputs)


def test_every_test_input_may_speak_its_whole_text() -> None:
    """Whatever they state is enough for the slowest voice, so that make run cuts no sentence off."""
    settings = Settings(voices_dir=ASSETS)
    for file in sorted((ROOT / "test_inputs").glob("*.json")):
        request = parse_job(json.loads(file.read_text())["input"], settings, voices=voice_library(settings)).request
        length = speech_length(request.script or "")
        assert length is None or request.params.max_new_tokens >= length.most, file.name


def _clips(job: dict[str, Any]) -> list[dict[str, Any]]:
    references = job.get("references", [])
    return references if isinstance(references, list) else [references]


def test_the_clip_in_the_base64_inputs_is_real_audio() -> None:
    job = json.loads((ROOT / "test_inputs" / "clone_base64.json").read_text())["input"]
    data = base64.b64decode(job["references"][0]["audio_base64"].partition(",")[2], validate=True)
    assert data[:4] == b"OggS"
