"""The default settings boot on the hub as it is: a renamed repository, weights in two forms, a codec that went bad."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.repositories import CODEC, MODEL, PINNED_REVISIONS
from serverless.config.settings import Settings
from serverless.service.service import SpeechService
from tests.helpers.checkpoints import INDEX, SINGLE, write_shards
from tests.helpers.loopback_hub import LoopbackHub
from tests.helpers.paths import ROOT
from tests.helpers.service import answer as answer_to

NEW_NAME = "bosonai/higgs-tts-2-3b-base"
JOB = {"script": "A short sentence.", "max_new_tokens": 40, "seed": 1}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small language model whose weights are there as one file and as shards, and a small codec."""
    model, codec = write_tiny(tmp_path_factory.mktemp("checkpoints"))
    write_shards(model)
    return model, codec


@pytest.fixture
def served(hub: LoopbackHub, checkpoints: tuple[Path, Path], tmp_path: Path) -> Path:
    """The hub holds the codec at its good revision, and another model's weights at main; returns the model's folder."""
    model, codec = checkpoints
    bad = tmp_path / "bad-codec"
    shutil.copytree(codec, bad)
    shutil.copy(model / SINGLE, bad / SINGLE)
    hub.add(CODEC, bad, "b" * 40)
    hub.add(CODEC, codec, PINNED_REVISIONS[CODEC], branch="good")
    shutil.copytree(model, tmp_path / "model")
    return tmp_path / "model"


@contextmanager
def booted(**settings: Any) -> Iterator[SpeechService]:
    """A service with the default checkpoints, small enough for a test."""
    service = SpeechService(Settings(max_concurrency=1, max_context=512, max_new_tokens=400, **settings))
    try:
        service.load()
        yield service
    finally:
        service.close()


def spoken(service: SpeechService) -> dict[str, Any]:
    assert service.load_error is None
    answer = asyncio.run(answer_to(service, JOB))
    assert "error" not in answer, answer
    return answer


@pytest.mark.parametrize("configured", [MODEL, NEW_NAME])
@pytest.mark.parametrize("known", ["old name", "new name", "redirect"])
def test_either_name_boots_whichever_the_hub_knows_and_responses_have_one(
    hub: LoopbackHub, served: Path, configured: str, known: str
) -> None:
    hub.add(MODEL if known == "old name" else NEW_NAME, served, PINNED_REVISIONS[MODEL])
    if known == "redirect":
        hub.moved[MODEL] = NEW_NAME
    with booted(model_id=configured) as service:
        assert spoken(service)["model"] == MODEL
    weights = Counter(name.rpartition("/")[2] for name in hub.served.elements() if name.endswith(".safetensors"))
    assert weights == {
        SINGLE: 1,
        **{f"model-0000{at}-of-00003.safetensors": 1 for at in (1, 2, 3)},
    }  # the codec's, the shards


def test_an_index_whose_shard_is_missing_falls_back_to_the_single_file(hub: LoopbackHub, served: Path) -> None:
    (served / "model-00002-of-00003.safetensors").unlink()
    hub.add(MODEL, served, PINNED_REVISIONS[MODEL])
    with booted() as service:
        spoken(service)
    assert hub.served[f"{MODEL}/{SINGLE}"] == 1
    assert not any("model-0000" in name for name in hub.served)


def test_a_shard_that_is_missing_without_a_single_file_is_said(hub: LoopbackHub, served: Path) -> None:
    (served / "model-00002-of-00003.safetensors").unlink()
    (served / SINGLE).unlink()
    hub.add(MODEL, served, PINNED_REVISIONS[MODEL])
    with booted() as service:
        assert service.load_error == (
            "The repository lacks model-00002-of-00003.safetensors, which its index names; use another revision or a "
            "whole folder."
        )


def test_a_download_that_breaks_off_is_an_error_once_and_a_whole_model_the_next_time(
    hub: LoopbackHub, served: Path
) -> None:
    (served / INDEX).unlink()
    hub.add(MODEL, served, PINNED_REVISIONS[MODEL])
    hub.breaks[SINGLE] = 1000
    with booted() as service:
        assert service.load_error is not None
        assert "cannot be downloaded: the hub did not answer as expected" in service.load_error
        answer = asyncio.run(answer_to(service, JOB))
        assert answer["code"] == "model_not_loaded"
    hub.breaks.clear()
    with booted() as service:
        spoken(service)
    hub.asked.clear()
    with booted() as service:  # and from then on without a word to the hub
        spoken(service)
    assert hub.asked == []


def test_a_fresh_process_with_nothing_but_the_hubs_address_speaks(
    hub: LoopbackHub, served: Path, tmp_path: Path
) -> None:
    hub.add(NEW_NAME, served, PINNED_REVISIONS[MODEL])
    hub.moved[MODEL] = NEW_NAME
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"input": JOB}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HIGGS_", "HF_"))}
    environment |= {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HIGGS_AUDIO_MAX_CONTEXT": "512",
        "HIGGS_AUDIO_MAX_NEW_TOKENS": "400",
    }
    done = subprocess.run(
        [sys.executable, "-m", "serverless.local_run", "--output", str(tmp_path / "output"), str(job)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "job.wav").stat().st_size > 44
    assert json.loads((tmp_path / "output" / "job.json").read_text())["model"] == MODEL
