"""The real OpenAI client for Node, against the real server. `npm ci` in tests/clients installs it; .ci/run does."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.helpers.http_server import Running
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

CLIENTS = ROOT / "tests/clients"
NODE = shutil.which("node")
LEAST_VERSION = 20


def version() -> int:
    """Of node, its first number; 0 without node."""
    if NODE is None:
        return 0
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    return int(told.strip().removeprefix("v").split(".")[0])


pytestmark = [
    pytest.mark.skipif(version() < LEAST_VERSION, reason=f"node {LEAST_VERSION} or newer is not installed"),
    pytest.mark.skipif(not (CLIENTS / "node_modules/openai").is_dir(), reason="npm ci was not run in tests/clients"),
]


@pytest.fixture(scope="module")
def told(shared_server: Running) -> dict[str, Any]:
    """What the client got of everything that it asked for."""
    command = [str(NODE), "openai_node.mjs", f"{shared_server.url}/v1"]
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_every_format_arrives_with_its_type(told: dict[str, Any]) -> None:
    types = {name: kind for name, (kind, _) in told["lengths"].items()}
    assert types == {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
    lengths = {name: size for name, (_, size) in told["lengths"].items()}
    assert lengths["wav"] == lengths["pcm"] + 44
    assert all(size > 100 for size in lengths.values())


def test_bytes_and_events_hold_the_same_audio(told: dict[str, Any]) -> None:
    whole = told["lengths"]["pcm"][1]
    assert told["streamed"]["total"] == told["events"]["bytes"] == whole
    assert told["events"]["types"] == ["speech.audio.delta", "speech.audio.done"]
    usage = told["events"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_lists_dated_names_and_a_batch_are_read(told: dict[str, Any]) -> None:
    assert (told["models"], told["dated"]) == (["tiny"], "tiny")
    assert told["voices"] >= 2
    assert told["batch"] == ["audio/mpeg", "speed"]


def test_an_error_is_the_clients_own(told: dict[str, Any]) -> None:
    assert told["refused"] == {
        "name": "BadRequestError",
        "status": 400,
        "param": "speed",
        "type": "invalid_request_error",
    }
