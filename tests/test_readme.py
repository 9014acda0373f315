"""The README keeps its word: its snippets run, its fields and variables exist, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
import soundfile

from benchmarks import lost_words, quality
from serverless.config.settings import PREFIX, Settings, variables
from serverless.payload.parse import parse_job
from serverless.payload.request_fields import ReferenceFields, RequestFields
from tests.helpers.http_server import Running
from tests.helpers.http_stub import Request, answering
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

TEXT = (ROOT / "README.md").read_text()
TINY = Settings(model_id="tiny", device="cpu", max_concurrency=2)


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language, dedented (some stand in a list)."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def block_with(language: str, words: str) -> str:
    return next(block for block in blocks(language) if words in block)


def runpod_standing_in_front(server: Running) -> AbstractContextManager[str]:
    """The address of a /runsync that answers with what the worker's response is wrapped in."""

    def answer(request: Request) -> tuple[int, bytes]:
        asked = request.headers["Authorization"] == "Bearer secret" and request.path == "/v2/abc/runsync"
        output = server.generate(json.loads(request.body)["input"]).json() if asked else None
        return 200, json.dumps({"id": "1", "status": "COMPLETED", "output": output}).encode()

    return answering(answer)


def test_the_engine_snippet_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block_with("python", "HiggsAudioEngine"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert "prompt_tokens" in lines[0]
    assert lines[1].startswith("0 ")


def test_the_openai_snippet_saves_speech(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = block_with("python", "from openai").replace("http://localhost:8000", server.url)
    exec(compile(code, "README.md", "exec"), {})
    audio, rate = soundfile.read(tmp_path / "hello.wav")
    assert rate == 24_000
    assert len(audio) > 0


def test_the_runpod_snippet_saves_speech(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDPOINT_ID", "abc")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret")
    with runpod_standing_in_front(server) as address:
        code = block_with("python", "answer[").replace("https://api.runpod.ai", address)
        exec(compile(code, "README.md", "exec"), {})
    audio, rate = soundfile.read(tmp_path / "hello.wav")
    assert rate == 24_000
    assert len(audio) > 0


def test_the_curl_command_sends_a_job_that_works(server: Running) -> None:
    command = shlex.split(block_with("bash", "curl").replace("\\\n", " "))
    body = json.loads(command[command.index("-d") + 1])
    assert server.generate(body["input"]).json()["duration_seconds"] > 0


def test_the_client_command_is_one_that_the_client_takes() -> None:
    command = shlex.split(block_with("bash", "serverless.client").replace("$ENDPOINT_ID", "abc"))
    assert command[:3] == ["python", "-m", "serverless.client"]
    usage = subprocess.run(
        [sys.executable, *command[1:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(option in usage for option in command[3:] if option.startswith("-"))


def test_the_request_example_is_a_valid_job() -> None:
    job = json.loads(block_with("json", "SPEAKER0"))
    parsed = parse_job(job["input"], TINY)
    assert parsed.warnings == ()
    assert [source.speaker_tag for source in parsed.request.references] == ["SPEAKER0", "SPEAKER1"]


def test_the_response_example_has_the_keys_of_a_response(server: Running) -> None:
    example = json.loads(block_with("json", 'audio_base64": "UklGR'))
    answer: dict[str, Any] = server.generate({"script": "Hello.", "seed": 3}).json()
    assert set(example) <= set(answer)
    assert set(answer) - set(example) <= {"prompt", "reference_transcripts"}
    assert set(example["timings"]) == set(answer["timings"])
    assert set(example["usage"]) == set(answer["usage"])
    assert set(example["chunks"][0]) == set(answer["chunks"][0])


def test_every_field_of_the_contract_is_in_the_tables() -> None:
    tables = TEXT.partition("## A request")[2].partition("## A response")[0]
    named = set(re.findall(r"[a-z_0-9]+", tables))
    for table in (RequestFields, ReferenceFields):
        for field in vars(table).values():
            if hasattr(field, "names"):
                assert named & set(field.names), field.names


def test_the_table_of_lost_words_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert "`python -m benchmarks.lost_words`" in TEXT
    assert lost_words.main() == 0
    assert capsys.readouterr().out in TEXT


def test_the_table_of_quality_is_what_its_command_wrote() -> None:
    assert "`python -m benchmarks.quality`" in TEXT
    newest = max((ROOT / "benchmarks/results").glob("*quality*.json"))
    assert quality.markdown(json.loads(newest.read_text())["rows"]) in TEXT


def test_every_variable_exists() -> None:
    known = set(variables())
    section = TEXT.partition("## Environment")[2].partition("## Departures")[0]
    written = set(re.findall(r"\b(?:HIGGS_AUDIO|BUCKET)_[A-Z0-9_]+\b", TEXT))
    short = {PREFIX + name[1:] for name in re.findall(r"`(_[A-Z_]+)`", section)}
    assert written | short <= known | {"HF_TOKEN"}
    limits = {name for name in known if name not in written | short}
    assert all(name.startswith((PREFIX + "MAX_", PREFIX + "MIN_")) for name in limits - _ELSEWHERE), limits


_ELSEWHERE = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PORT", "PORT_HEALTH"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z]+)", TEXT))))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", TEXT))))
def test_every_relative_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:higgs_core|serverless)/[a-z_/]+\.py)`", TEXT))))
def test_every_file_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_routes_named_answer(server: Running) -> None:
    for route in ("/ping", "/v1/models", "/v1/audio/voices", "/metrics", "/"):
        assert f"{route}`" in TEXT
        assert requests.get(server.url + route, timeout=PATIENCE).status_code == 200
