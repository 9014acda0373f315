"""Every fenced block of every page is run, or checked as far as it can be without Docker and RunPod."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import soundfile

from serverless.client.__main__ import BATCH
from serverless.config.settings import Settings, variables
from serverless.payload.parse import parse_job
from tests.helpers.http_server import Running
from tests.helpers.http_stub import Request, answering
from tests.helpers.pages import PAGES, Block, blocks_of
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

BLOCKS = [block for path in PAGES for block in blocks_of(path) if block.language]
RUNPOD = "https://api.runpod.ai"
LOCAL = "http://localhost:8000"
LIVE = "ws://localhost:8000"
BALANCED = "https://{os.environ['ENDPOINT_ID']}.api.runpod.ai"
HAS_COMMENT = re.compile(r"\s+# .*$", re.MULTILINE)


@pytest.fixture
def runpod(server: Running) -> Iterator[str]:
    """The address of a /runsync that answers with what the worker's response is wrapped in."""

    def answer(request: Request) -> tuple[int, bytes]:
        asked = request.headers["Authorization"] == "Bearer secret" and request.path == "/v2/abc/runsync"
        output = server.generate(json.loads(request.body)["input"]).json() if asked else None
        return 200, json.dumps({"id": "1", "status": "COMPLETED", "output": output}).encode()

    with answering(answer) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a snippet runs: files that it writes do not stay, and paths from the root of the repository work."""
    (tmp_path / "test_inputs").symlink_to(ROOT / "test_inputs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDPOINT_ID", "abc")
    monkeypatch.setenv("RUNPOD_API_KEY", "secret")
    monkeypatch.setenv("HIGGS_AUDIO_API_KEY", "another secret")
    return tmp_path


def named(language: str) -> Any:
    found = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", found, ids=str)


def test_every_block_has_a_test() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "python", "json", "javascript"}


# -- Python -----------------------------------------------------------------------------------------------------------


@named("python")
def test_a_python_snippet_runs(
    block: Block, server: Running, runpod: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = block.body.replace(RUNPOD, runpod).replace(LOCAL, server.url).replace(BALANCED, server.url)
    code = code.replace(LIVE, server.url.replace("http://", "ws://"))
    exec(compile(code, block.page.name, "exec"), {})
    if "hello.wav" in code:
        assert_is_speech(folder / "hello.wav")
    else:
        lines = capsys.readouterr().out.splitlines()
        assert "prompt_tokens" in lines[0]
        assert lines[1].startswith("0 ")


def assert_is_speech(file: Path) -> None:
    audio, rate = soundfile.read(file)
    assert rate == 24_000
    assert len(audio) > 0


# -- JavaScript -------------------------------------------------------------------------------------------------------


@named("javascript")
def test_a_node_snippet_runs(block: Block, server: Running, folder: Path) -> None:
    packages = ROOT / "tests/clients/node_modules"
    if shutil.which("node") is None or not packages.is_dir():
        pytest.skip("node or what npm ci installs in tests/clients is missing")
    (folder / "node_modules").symlink_to(packages)
    (folder / "snippet.mjs").write_text(block.body.replace(LOCAL, server.url))
    subprocess.run(["node", "snippet.mjs"], cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
    assert_is_speech(folder / "hello.wav")


# -- JSON -------------------------------------------------------------------------------------------------------------


@named("json")
def test_a_json_example_is_a_job_or_a_response(block: Block, server: Running) -> None:
    example = json.loads(block.body)
    if "input" in example:
        parsed = parse_job(example["input"], Settings())
        assert parsed.warnings == ()
        written = [reference.get("speaker_tag") for reference in example["input"].get("references", [])]
        assert [source.speaker_tag for source in parsed.request.references] == written
        return
    answer: dict[str, Any] = server.generate({"script": "Hello.", "seed": 3}).json()
    assert set(example) <= set(answer)
    assert set(answer) - set(example) <= {"prompt", "reference_transcripts"}
    for part in ("timings", "usage"):
        assert set(example[part]) == set(answer[part])
    assert set(example["chunks"][0]) == set(answer["chunks"][0])


# -- Commands ---------------------------------------------------------------------------------------------------------


def commands(block: Block) -> list[str]:
    """The commands of a block, continued lines joined, without comments."""
    joined = re.sub(r"\\\n\s*", "", HAS_COMMENT.sub("", block.body))
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


@named("bash")
def test_a_command_works(block: Block, server: Running, runpod: str, folder: Path) -> None:
    for command in commands(block):
        words = shlex.split(command)
        while "=" in words[0]:  # a variable of this command alone
            words.pop(0)
        program, arguments = Path(words[0]).name, words[1:]
        if program == "curl":
            check_curl(command.replace(RUNPOD, runpod).replace(LOCAL, server.url), folder)
        elif program == "docker":
            check_docker(arguments)
        elif program == "make":
            check_make(arguments)
        elif program == "kubectl":
            check_kubectl(arguments)
        elif program == "python":
            check_python(arguments)
        else:
            pytest.fail(f"no test knows how to run {words[0]}")


def check_curl(command: str, folder: Path) -> None:
    """Run it, and look at the speech that it saved or printed."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=True)
    if " -o " in command:
        assert_is_speech(folder / command.rpartition(" -o ")[2].split()[0])
    else:
        answer = json.loads(done.stdout)
        if "/v1/audio/voices" in command:
            assert answer["success"] is True
            return
        assert answer.get("output", answer)["duration_seconds"] > 0


def check_docker(arguments: list[str]) -> None:
    dockerfile = (ROOT / "deploy/runpod/Dockerfile").read_text()
    options = list(pairwise(arguments))
    if arguments[0] == "build":
        assert arguments[-1] == "."
        assert ("-f", "deploy/runpod/Dockerfile") in options
        for name in (value.split("=")[0] for option, value in options if option == "--build-arg"):
            assert re.search(rf"^ARG {name}\b", dockerfile, re.MULTILINE)
    elif arguments[0] == "run":
        environment = dict(value.split("=", 1) for option, value in options if option == "-e")
        assert set(environment) <= set(variables())
        settings = Settings.from_environment(environment)
        ports = [value.split(":")[-1] for option, value in options if option == "-p"]
        assert ports == ([str(settings.port)] if settings.mode == "http" else [])
    elif arguments[0] == "compose":
        assert arguments[1] == "-f"
        assert (ROOT / arguments[2]).is_file()
    else:
        assert arguments[0] == "push"


def check_kubectl(arguments: list[str]) -> None:
    """Whether the manifests are there, and whether the secret has the name and the key that they use."""
    if arguments[:2] == ["apply", "-k"]:
        assert (ROOT / arguments[2] / "kustomization.yaml").is_file()
        return
    assert arguments[:3] == ["create", "secret", "generic"]
    key = arguments[4].removeprefix("--from-literal=").split("=")[0]
    deployment = (ROOT / "deploy/kubernetes/deployment.yaml").read_text()
    assert re.search(rf"secretKeyRef:\n +name: {arguments[3]}\n +key: {key}\n", deployment)


def check_make(arguments: list[str]) -> None:
    """Whether make has the target and takes the variables; what the targets do is tested where they are made."""
    names = [word.split("=")[0] for word in arguments if "=" in word]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{name} \?=", makefile, re.MULTILINE) for name in names)
    subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)


def check_python(arguments: list[str]) -> None:
    """Whether the module or script exists and knows the options, and whether pytest's files exist."""
    if arguments[0] == "-m":
        target, rest = arguments[:2], arguments[2:]
        assert importlib.util.find_spec(target[1])
    else:
        target, rest = arguments[:1], arguments[1:]
    if rest[:1] == [BATCH]:  # it has options of its own
        target, rest = [*target, BATCH], rest[1:]
    if target == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in rest if not path.startswith("-"))
        return
    usage = subprocess.run(
        [sys.executable, *target, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    assert all(option in usage for option in rest if option.startswith("-"))
