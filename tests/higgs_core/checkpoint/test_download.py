"""Room on the disk, progress and hashes of a download, from a hub on loopback."""

from __future__ import annotations

import logging
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.hf_api import RepoFile

from higgs_core.checkpoint import download as module
from higgs_core.checkpoint.download_progress import DownloadProgress, stored_bytes
from higgs_core.checkpoint.locate import locate
from higgs_core.errors import ModelLoadError
from tests.helpers.checkpoints import INDEX, SINGLE, write_files
from tests.helpers.loopback_hub import LoopbackHub

COMMIT = "c" * 40
WHOLE = ("config.json", "tokenizer.json", SINGLE)
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def served(tmp_path: Path, hub: LoopbackHub) -> Path:
    folder = write_files(tmp_path / "served", "config.json", "tokenizer.json", INDEX, *SHARDS)
    hub.add("org/name", folder, COMMIT)
    return folder


def find(tmp_path: Path) -> Path:
    return locate("org/name", cache=tmp_path / "runpod")


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2 * free, free, free))


def test_a_disk_that_is_too_small_is_said_before_any_weight_is_fetched(
    tmp_path: Path, hub: LoopbackHub, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum((served / name).stat().st_size for name in SHARDS)
    leave_free(monkeypatch, module._SPARE_BYTES + size - 1)
    with pytest.raises(
        ModelLoadError, match=r"needs 0\.0 GB of disk and 0\.3 GB are free; give the container"
    ) as raised:
        find(tmp_path)
    assert str(tmp_path) not in raised.value.message
    assert not any(hub.served[f"org/name/{name}"] for name in SHARDS)
    leave_free(monkeypatch, module._SPARE_BYTES + size)
    assert (find(tmp_path) / SHARDS[0]).is_file()


def test_what_was_downloaded_before_needs_no_room(
    tmp_path: Path, hub: LoopbackHub, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.breaks[SHARDS[1]] = 1000
    with pytest.raises(ModelLoadError):
        find(tmp_path)
    hub.breaks.clear()
    leave_free(monkeypatch, module._SPARE_BYTES + (served / SHARDS[1]).stat().st_size)
    assert (find(tmp_path) / SHARDS[1]).is_file()


def test_a_file_with_a_wrong_byte_is_refused_and_fetched_again_the_next_time(
    tmp_path: Path, hub: LoopbackHub, served: Path
) -> None:
    hub.damages[SHARDS[0]] = 1
    with pytest.raises(ModelLoadError, match=f"is damaged: the SHA-256 of {SHARDS[0]} is not the hub's"):
        find(tmp_path)
    found = find(tmp_path)
    assert (found / SHARDS[0]).read_bytes() == (served / SHARDS[0]).read_bytes()
    assert hub.served[f"org/name/{SHARDS[0]}"] == 2
    assert hub.served[f"org/name/{SHARDS[1]}"] == 1


def test_the_log_says_what_was_downloaded(tmp_path: Path, served: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "higgs_core"):
        find(tmp_path)
    assert any("Downloading the model: 0.0 of 0.0 GB" in record.message for record in caplog.records)


def test_progress_counts_what_came_since_it_began(caplog: pytest.LogCaptureFixture) -> None:
    now, stored = 100.0, 2_000_000_000
    progress = DownloadProgress("model", 11_500_000_000, lambda: stored, clock=lambda: now)
    now, stored = 110.0, 4_100_000_000
    with caplog.at_level(logging.INFO, "higgs_core"):
        progress.report()
    assert caplog.messages == ["Downloading the model: 4.1 of 11.5 GB, 210 MB a second"]


def test_stored_bytes_are_those_of_the_wanted_files_whole_or_in_part(tmp_path: Path) -> None:
    files = [
        RepoFile(
            path=f"{letter}.safetensors",
            size=100,
            oid="0" * 40,
            lfs={"oid": letter * 64, "size": 100, "pointerSize": 1},
        )
        for letter in "abc"
    ]
    (tmp_path / ("a" * 64)).write_bytes(bytes(100))
    (tmp_path / ("b" * 64 + ".incomplete")).write_bytes(bytes(40))
    (tmp_path / ("d" * 64)).write_bytes(bytes(100))
    assert stored_bytes(tmp_path, files) == 140
    assert stored_bytes(tmp_path / "not there", files) == 0


def test_the_disk_that_is_asked_is_the_caches(tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: asked.append(folder) or Usage(10**12, 0, 10**12))
    find(tmp_path)
    assert any(Path(constants.HF_HUB_CACHE).is_relative_to(folder) for folder in asked)
