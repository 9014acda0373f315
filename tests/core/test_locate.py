"""Where a checkpoint comes from: a folder, RunPod's cache, the hub's cache, the hub. No test touches the network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from higgs_core import locate as module
from higgs_core.errors import ModelLoadError
from higgs_core.locate import PINNED_REVISIONS, locate

MODEL = "bosonai/higgs-audio-v2-generation-3B-base"
PINNED = PINNED_REVISIONS[MODEL]
Download = Callable[..., str]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Download], list[dict[str, Any]]]:
    """Puts a function in the place of the hub's download and lists what it is asked for."""

    def answer_with(download: Download) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def recorded(**arguments: Any) -> str:
            calls.append(arguments)
            return download(**arguments)

        monkeypatch.setattr(module, "snapshot_download", recorded)
        return calls

    return answer_with


@pytest.fixture
def no_hub(hub: Callable[[Download], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    def refuse(**_: Any) -> str:
        raise AssertionError("the hub was asked")

    return hub(refuse)


def snapshot(cache: Path, repository: str, revision: str, *, main: bool = False, inside: str = "") -> Path:
    """Lay a snapshot into a cache the way RunPod does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    found = folder / "snapshots" / revision
    (found / inside).mkdir(parents=True)
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision + "\n")
    return found


def response(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/secret-path"))


class TestFolders:
    def test_a_local_folder_is_taken_as_it_is(self, tmp_path: Path, no_hub: list[dict[str, Any]]) -> None:
        assert locate(str(tmp_path), cache=tmp_path / "cache") == tmp_path

    def test_a_relative_and_a_home_folder_are_taken(
        self, tmp_path: Path, no_hub: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "models" / "mine").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert locate("models/mine").samefile(tmp_path / "models" / "mine")
        assert locate("~/models").samefile(tmp_path / "models")

    @pytest.mark.parametrize(
        "name",
        [
            "mistyped",
            "",
            "/nowhere/at/all",
            "org//name",
            "org/",
        ],
    )
    def test_what_is_neither_folder_nor_hub_id_is_refused(self, name: str, no_hub: list[dict[str, Any]]) -> None:
        with pytest.raises(ModelLoadError, match="is neither a folder here nor a hub id such as 'org/name'"):
            locate(name, what="model")

    def test_the_sentence_says_what_was_looked_for(self, no_hub: list[dict[str, Any]]) -> None:
        with pytest.raises(ModelLoadError, match="The audio tokenizer 'mistyped'"):
            locate("mistyped", what="audio tokenizer")


class TestRunPodCache:
    def test_the_pinned_revision_is_preferred(
        self, tmp_path: Path, no_hub: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot(tmp_path, MODEL, "0" * 40, main=True)
        wanted = snapshot(tmp_path, MODEL, PINNED)
        assert locate(MODEL, cache=tmp_path) == wanted
        assert not caplog.records

    def test_another_revision_is_taken_with_a_warning(
        self, tmp_path: Path, no_hub: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        held = snapshot(tmp_path, MODEL, "f" * 40, main=True)
        with caplog.at_level(logging.WARNING):
            assert locate(MODEL, cache=tmp_path) == held
        assert f"another revision of {MODEL} than the one pinned" in caplog.text

    def test_the_callers_revision_goes_before_the_pinned_one(
        self, tmp_path: Path, no_hub: list[dict[str, Any]]
    ) -> None:
        snapshot(tmp_path, MODEL, PINNED, main=True)
        wanted = snapshot(tmp_path, MODEL, "a" * 40)
        assert locate(MODEL, "a" * 40, cache=tmp_path) == wanted

    def test_main_is_what_the_cache_says_is_main(self, tmp_path: Path, no_hub: list[dict[str, Any]]) -> None:
        snapshot(tmp_path, "org/name", "1" * 40)
        main = snapshot(tmp_path, "org/name", "2" * 40, main=True)
        assert locate("org/name", cache=tmp_path) == main

    def test_a_lower_cased_folder_is_found(self, tmp_path: Path, no_hub: list[dict[str, Any]]) -> None:
        held = snapshot(tmp_path, MODEL.lower(), PINNED, main=True)
        assert locate(MODEL, cache=tmp_path) == held

    def test_a_cache_without_refs_still_serves(self, tmp_path: Path, no_hub: list[dict[str, Any]]) -> None:
        held = snapshot(tmp_path, "org/name", "3" * 40)
        assert locate("org/name", cache=tmp_path) == held

    def test_a_subfolder_is_found_inside_the_snapshot(self, tmp_path: Path, no_hub: list[dict[str, Any]]) -> None:
        held = snapshot(tmp_path, "org/name", "4" * 40, inside="audio_tokenizer")
        assert locate("org/name/audio_tokenizer", cache=tmp_path) == held / "audio_tokenizer"
        with pytest.raises(ModelLoadError, match="The audio tokenizer 'org/name' has no folder 'elsewhere/deep'"):
            locate("org/name/elsewhere/deep", what="audio tokenizer", cache=tmp_path)

    def test_an_empty_cache_leads_to_the_hub(
        self, tmp_path: Path, hub: Callable[[Download], list[dict[str, Any]]]
    ) -> None:
        (tmp_path / "models--org--name" / "snapshots").mkdir(parents=True)
        downloaded = tmp_path / "downloaded"
        downloaded.mkdir()
        calls = hub(lambda **_: str(downloaded))
        assert locate("org/name", cache=tmp_path) == downloaded
        assert len(calls) == 1


class TestHub:
    def test_what_the_hubs_cache_holds_is_taken_without_asking_the_hub(
        self, tmp_path: Path, hub: Callable[[Download], list[dict[str, Any]]]
    ) -> None:
        calls = hub(lambda **_: str(tmp_path))
        assert locate(MODEL, cache=tmp_path / "cache") == tmp_path
        assert [call["local_files_only"] for call in calls] == [True]
        assert calls[0]["revision"] == PINNED

    @pytest.mark.parametrize("absent", [LocalEntryNotFoundError, IncompleteSnapshotError])
    def test_what_it_lacks_is_downloaded_at_the_revision_asked_for(
        self,
        tmp_path: Path,
        hub: Callable[[Download], list[dict[str, Any]]],
        monkeypatch: pytest.MonkeyPatch,
        absent: type[Exception],
    ) -> None:
        def download(*, local_files_only: bool = False, **_: Any) -> str:
            if local_files_only:
                raise absent("nothing here", **({"snapshot_path": "x"} if absent is IncompleteSnapshotError else {}))
            return str(tmp_path)

        calls = hub(download)
        monkeypatch.setenv("HF_TOKEN", "hf_words")
        assert locate("org/name", "v1.0", cache=tmp_path / "cache") == tmp_path
        assert calls[1]["repo_id"] == "org/name"
        assert calls[1]["revision"] == "v1.0"
        assert calls[1]["token"] == "hf_words"
        assert "*.safetensors" in calls[1]["allow_patterns"]

    def test_of_a_subfolder_only_its_files_are_downloaded(
        self, tmp_path: Path, hub: Callable[[Download], list[dict[str, Any]]]
    ) -> None:
        (tmp_path / "audio_tokenizer").mkdir()
        calls = hub(lambda **_: str(tmp_path))
        found = locate("k2-fsa/OmniVoice/audio_tokenizer", cache=tmp_path / "cache")
        assert found == tmp_path / "audio_tokenizer"
        assert calls[0]["repo_id"] == "k2-fsa/OmniVoice"
        assert set(calls[0]["allow_patterns"]) == {
            "audio_tokenizer/*.json",
            "audio_tokenizer/*.safetensors",
            "audio_tokenizer/*.model",
        }

    @pytest.mark.parametrize(
        ("failure", "remedy"),
        [
            (GatedRepoError("no", response=response(403)), "ask for access on the hub and set HF_TOKEN"),
            (RepositoryNotFoundError("no", response=response(404)), "check the name, and set HF_TOKEN if"),
            (RevisionNotFoundError("no", response=response(404)), "no such revision"),
            (HfHubHTTPError("no", response=response(503)), r"did not answer as expected \(HfHubHTTPError\)"),
            (LocalEntryNotFoundError("no"), "check the network or use a local folder"),
            (ConnectionError("no"), r"\(ConnectionError\); check the network or use a local folder"),
            (OSError(28, "No space left on device"), "OSError"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_each_refusal_of_the_hub_becomes_one_sentence_with_a_remedy(
        self,
        tmp_path: Path,
        hub: Callable[[Download], list[dict[str, Any]]],
        failure: Exception,
        remedy: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def download(*, local_files_only: bool = False, **_: Any) -> str:
            raise LocalEntryNotFoundError("nothing here") if local_files_only else failure

        hub(download)
        monkeypatch.setenv("HF_TOKEN", "hf_words")
        with pytest.raises(ModelLoadError, match=remedy) as raised:
            locate("org/name", what="audio tokenizer", cache=tmp_path)
        sentence = raised.value.message
        assert sentence.startswith("The audio tokenizer 'org/name' (revision main) cannot be downloaded: ")
        assert "\n" not in sentence
        assert "hf_words" not in sentence
        assert "secret-path" not in sentence

    def test_a_name_that_the_hub_would_not_allow_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="org/na me"):
            locate("org/na me", cache=tmp_path)
