"""`python -m serverless.local_run`, in this process, with the real model and handler."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import shutil
import sys
import threading
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
from serverless.local.assets import PLACEHOLDER, allow, loopback_open, names_only_assets, served, with_address
from serverless.payload.parse import parse_job
from serverless.voices.library import LivingLibrary
from tests.helpers.http_stub import Request, answering
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
    from_the_run = ("REFERENCE_DIRS", "VOICES_DIR", "VOICES_READ_ONLY")
    for name in (*(f"HIGGS_AUDIO_{each}" for each in from_the_run), "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HIGGS_AUDIO_MODEL_ID", "tiny")
    monkeypatch.setenv("HIGGS_AUDIO_DEVICE", "cpu")
    monkeypatch.chdir(ROOT)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for module, hook in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, hook, getattr(module, hook))  # put back after the test
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


def some_wrong_files(folder: Path) -> tuple[list[str], list[str]]:
    """A good file, three that are wrong, and what is said of these."""
    files = [
        write(folder, "good", {"input": {"script": "Hello.", "seed": 4, "max_new_tokens": 40, "temprature": 1}}),
        write(folder, "wrong", {"input": {"script": "Hello.", "top_p": 3}}),
        write(folder, "shapeless", {"script": "Hello."}),
        str(folder / "missing.json"),
    ]
    return files, [
        f"{files[1]}:1:32: top_p is 3; allowed is above 0 and at most 1, or null for off.",
        f'{files[2]}:1:1: the file does not hold {{"input": {{...}}}}.',
        f"{files[3]} cannot be read: No such file or directory.",
    ]


def test_wrong_files_are_named_with_their_places_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MODEL_ID", "/nowhere")  # loading it would be told
    files, said = some_wrong_files(tmp_path)
    assert local_run.main(["--output", str(tmp_path / "out"), *files]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"{files[0]}: warning: Unknown field 'temprature' was ignored; did you mean 'temperature'?",
        *said,
        "3 of 4 files are wrong, nothing was run; --keep-going runs the others.",
    ]
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_with_keep_going_the_good_files_run_and_the_exit_status_says_that_some_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, said = some_wrong_files(tmp_path)
    assert local_run.main(["--keep-going", "--output", str(tmp_path / "out"), *files]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "FAILED" not in lines[0]
    assert [line.partition("FAILED: ")[2] for line in lines[1:4]] == said
    assert "1 of 4 jobs done" in lines[-1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.json", "good.wav"]


def test_without_assets_beside_the_files_nothing_private_is_opened(tmp_path: Path) -> None:
    import os

    file = write(
        tmp_path, "inside", {"input": {"script": "Hi.", "references": [{"path": str(ASSETS / "reference.wav")}]}}
    )
    assert local_run.main(["--output", str(tmp_path / "out"), file]) == 1
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
    with loopback_open(True):
        assert os.environ["RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"] == "false"
    assert os.environ["HIGGS_AUDIO_REFERENCE_DIRS"] == "/clips"
    assert os.environ["RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"] == "false"
    assert os.environ["HIGGS_AUDIO_VOICES_DIR"] == str(ASSETS)


def test_a_designed_voice_leaves_no_file_beside_the_clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(ASSETS, tmp_path / "assets")
    before = sorted(tmp_path.joinpath("assets").iterdir())
    job = write(tmp_path, "alloy", {"input": {"script": "Hello.", "voice": "alloy", "max_new_tokens": 40}})
    assert local_run.main([job, "--output", str(tmp_path / "output")]) == 0
    assert sorted(tmp_path.joinpath("assets").iterdir()) == before


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
    with served(ASSETS, {"reference.wav"}) as address:
        clip = requests.get(f"{address}reference.wav", timeout=PATIENCE)
        assert clip.content == (ASSETS / "reference.wav").read_bytes()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}reference.wav", timeout=PATIENCE)


@pytest.mark.parametrize(
    "path",
    ["", "..", "second.wav", "reference.wav/", "../plain.json", "%72eference.wav", "reference.wav?a=1", "link.wav"],
)
def test_nothing_but_the_named_assets_is_served(tmp_path: Path, path: str) -> None:
    for name in ("reference.wav", "second.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    (tmp_path / "link.wav").symlink_to(ASSETS / "reference.wav")
    with served(
        tmp_path, {"reference.wav", "link.wav", "..", ".", "../plain.json", "", "missing.wav", "a\0b"}
    ) as address:
        host, _, rest = address.removeprefix("http://").partition("/")
        for asked in (f"/{rest}{path}", f"/{path}"):
            connection = http.client.HTTPConnection(host, timeout=PATIENCE)
            connection.request("GET", asked)
            assert connection.getresponse().status == 404
            connection.close()


@pytest.mark.parametrize(
    ("job", "opens"),
    [
        ({"input": {"references": [{"url": f"{PLACEHOLDER}a.wav"}]}}, True),
        ({"input": {"references": [{"url": f"{PLACEHOLDER}a.wav"}, {"url": "http://127.0.0.1:9/b.wav"}]}}, False),
        (
            {
                "input": {"reference_audio_urls": [f"{PLACEHOLDER}a.wav"]},
                "s3Config": {"endpointUrl": "http://10.0.0.1"},
            },
            False,
        ),
        ({"input": {"references": [{"url": "http://127.0.0.1:9/b.wav"}]}}, False),
        ({"input": {"script": "No address at all."}}, False),
    ],
)
def test_loopback_is_opened_only_for_a_job_that_names_assets_alone(job: Any, opens: bool) -> None:
    assert names_only_assets(job) == opens


def test_a_job_file_beside_assets_cannot_reach_other_private_addresses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    folder = tmp_path / "jobs"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "clip.wav").write_bytes((ASSETS / "reference.wav").read_bytes())
    asked: list[Request] = []

    def answer(request: Request) -> tuple[int, bytes]:
        asked.append(request)
        return 200, (ASSETS / "reference.wav").read_bytes()

    speech = {"script": "Hello.", "seed": 4, "max_new_tokens": 40}
    with answering(answer) as private:
        files = [
            write(folder, "own", {"input": {**speech, "references": [{"url": f"{PLACEHOLDER}clip.wav"}]}}),
            write(folder, "private", {"input": {**speech, "references": [{"url": f"{private}/clip.wav"}]}}),
        ]
        assert local_run.main(["--output", str(tmp_path / "out"), *files]) == 1
    assert asked == []
    lines = capsys.readouterr().out.splitlines()
    assert "FAILED" not in lines[0]
    assert "FAILED" in lines[1]
    assert "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS" not in os.environ


@pytest.mark.parametrize("second", ["job", "JOB"])
def test_two_files_of_one_name_are_refused_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MODEL_ID", "/nowhere")  # loading it would be told
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [
        write(tmp_path / folder, name, {"input": {"script": "Hi."}}) for folder, name in (("a", "job"), ("b", second))
    ]
    assert local_run.main(["--output", str(tmp_path / "out"), *files]) == 2
    told = capsys.readouterr()
    assert told.err == (
        f"{files[0]} and {files[1]} would write to the same file of {tmp_path / 'out'}; rename one or run it alone.\n"
    )
    assert told.out == ""
    assert not (tmp_path / "out").exists()


def test_a_job_file_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "job", {"input": {"script": "Hi."}})
    before = Path(file).read_bytes()
    assert local_run.main(["--output", str(tmp_path), file]) == 2
    assert (
        capsys.readouterr().err
        == f"The response to {file} would be written over it; send the output to another folder.\n"
    )
    assert Path(file).read_bytes() == before


def test_an_output_folder_that_cannot_be_made_is_said_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIGGS_AUDIO_MODEL_ID", str(tmp_path / "no model"))
    file = write(tmp_path, "job", {"input": {"script": "Hi."}})
    assert local_run.main(["--output", file, file]) == 2
    assert capsys.readouterr().err == f"{file} cannot be written: File exists. Give another folder with --output.\n"


def test_a_result_that_cannot_be_written_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = {"input": {"script": "Hello.", "seed": 4, "max_new_tokens": 40}}
    files = [write(tmp_path, name, job) for name in ("first", "second")]
    (tmp_path / "out/first.json").mkdir(parents=True)
    assert local_run.main(["--output", str(tmp_path / "out"), *files]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"FAILED: {tmp_path / 'out'} cannot be written: Is a directory." in lines[0]
    assert "1 of 2 jobs done" in lines[-1]
    assert (tmp_path / "out/second.wav").is_file()


def test_a_file_nested_too_deep_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "assets").mkdir()
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    deeper = tmp_path / "deeper.json"
    deeper.write_text('{"input": {"a": "' + PLACEHOLDER + 'a.wav", "b": ' + "[" * 900 + "]" * 900 + "}}")
    good = write(tmp_path, "good", {"input": {"script": "Hello.", "seed": 4, "max_new_tokens": 40}})
    assert local_run.main(["--keep-going", "--output", str(tmp_path / "out"), str(deep), str(deeper), good]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"FAILED: {deep}:1:1: this is nested too deep." in lines[0]
    assert f"FAILED: {deeper}:1:1: this is nested too deep." in lines[1]
    assert "1 of 3 jobs done" in lines[-1]


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
    library = LivingLibrary(settings)
    library.open()
    for file in sorted((ROOT / "test_inputs").glob("*.json")):
        request = parse_job(json.loads(file.read_text())["input"], settings, voices=library.snapshot()).request
        length = speech_length(request.script or "")
        assert length is None or request.params.max_new_tokens >= length.most, file.name


def _clips(job: dict[str, Any]) -> list[dict[str, Any]]:
    references = job.get("references", [])
    return references if isinstance(references, list) else [references]


def test_the_clip_in_the_base64_inputs_is_real_audio() -> None:
    job = json.loads((ROOT / "test_inputs" / "clone_base64.json").read_text())["input"]
    data = base64.b64decode(job["references"][0]["audio_base64"].partition(",")[2], validate=True)
    assert data[:4] == b"OggS"
