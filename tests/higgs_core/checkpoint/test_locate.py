"""Where a checkpoint comes from: a folder, RunPod's cache, the hub's cache, a hub on loopback."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from higgs_core.checkpoint import download as module
from higgs_core.checkpoint.locate import locate
from higgs_core.errors import ModelLoadError
from higgs_core.repositories import CODEC, MODEL, PINNED_REVISIONS, names_of, pinned_revision, reported_name
from tests.helpers.checkpoints import INDEX, SINGLE, snapshot, write_files
from tests.helpers.loopback_hub import LoopbackHub

NEW_NAME = "bosonai/higgs-tts-2-3b-base"
PINNED = PINNED_REVISIONS[MODEL]
COMMIT = "c" * 40
WHOLE = ("config.json", "tokenizer.json", SINGLE)
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
SHARDED = ("config.json", "tokenizer.json", INDEX, *SHARDS)


@pytest.fixture
def runpod(tmp_path: Path) -> Path:
    return tmp_path / "runpod"


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


class TestNames:
    @pytest.mark.parametrize("name", [MODEL, NEW_NAME])
    def test_both_names_of_the_model_are_one_repository(self, name: str) -> None:
        assert set(names_of(name)) == {MODEL, NEW_NAME}
        assert names_of(name)[0] == name
        assert (reported_name(name), pinned_revision(name)) == (MODEL, PINNED)

    def test_any_other_name_is_itself(self) -> None:
        assert names_of("org/name") == ("org/name",)
        assert (reported_name("org/name"), pinned_revision("org/name")) == ("org/name", None)

    def test_the_codec_is_pinned_where_it_is_known_to_be_good(self) -> None:
        assert pinned_revision(CODEC) == "403fbacf2f60caaa102f893fdfabb694619b2417"


class TestFolders:
    def test_a_local_folder_is_taken_as_it_is(self, tmp_path: Path, hub: LoopbackHub) -> None:
        assert locate(str(tmp_path), cache=tmp_path / "cache") == tmp_path
        assert hub.asked == []

    def test_a_relative_and_a_home_folder_are_taken(
        self, tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "org" / "name").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert locate("org/name", cache=tmp_path / "cache") == Path("org/name")
        assert locate("~/org", cache=tmp_path / "cache") == tmp_path / "org"

    @pytest.mark.parametrize("name", ["/not/there", "word", "", "org//name", "~/not-there"])
    def test_a_name_that_is_neither_is_refused_by_name(self, tmp_path: Path, hub: LoopbackHub, name: str) -> None:
        with pytest.raises(ModelLoadError, match="neither a folder here nor a hub id"):
            locate(name, cache=tmp_path)
        assert hub.asked == []

    def test_a_misspelt_name_of_a_built_in_checkpoint_is_told_the_right_ones(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match=r"'org/name', nor built in \(demo, tiny\)\.$"):
            locate("dmeo", cache=tmp_path)
        with pytest.raises(ModelLoadError, match=r"such as 'org/name'\.$"):
            locate("demo", what="audio tokenizer", cache=tmp_path)

    def test_what_is_looked_for_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ModelLoadError, match="The audio tokenizer 'mistyped'"):
            locate("mistyped", what="audio tokenizer", cache=tmp_path)


class TestRunPodCache:
    def test_the_pinned_revision_is_preferred(
        self, runpod: Path, hub: LoopbackHub, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot(runpod, MODEL, "0" * 40, *WHOLE, main=True)
        wanted = snapshot(runpod, MODEL, PINNED, *WHOLE)
        assert locate(MODEL, cache=runpod) == wanted
        assert not caplog.records
        assert hub.asked == []

    @pytest.mark.parametrize(("asked", "held"), [(MODEL, NEW_NAME), (NEW_NAME, MODEL), (NEW_NAME, NEW_NAME)])
    def test_the_model_is_found_under_either_name(self, runpod: Path, hub: LoopbackHub, asked: str, held: str) -> None:
        wanted = snapshot(runpod, held, PINNED, *WHOLE, main=True)
        assert locate(asked, cache=runpod) == wanted
        assert hub.asked == []

    def test_the_pinned_revision_under_the_other_name_goes_before_another_one(
        self, runpod: Path, hub: LoopbackHub
    ) -> None:
        snapshot(runpod, MODEL, "0" * 40, *WHOLE, main=True)
        wanted = snapshot(runpod, NEW_NAME, PINNED, *WHOLE)
        assert locate(MODEL, cache=runpod) == wanted

    def test_another_revision_is_taken_with_a_warning(
        self, runpod: Path, hub: LoopbackHub, caplog: pytest.LogCaptureFixture
    ) -> None:
        held = snapshot(runpod, NEW_NAME, "f" * 40, *SHARDED, main=True)
        with caplog.at_level(logging.WARNING):
            assert locate(MODEL, cache=runpod) == held
        assert f"another revision of {MODEL} than the one pinned" in caplog.text

    def test_the_callers_revision_goes_before_the_pinned_one(self, runpod: Path, hub: LoopbackHub) -> None:
        snapshot(runpod, MODEL, PINNED, *WHOLE, main=True)
        wanted = snapshot(runpod, MODEL, "a" * 40, *WHOLE)
        assert locate(MODEL, "a" * 40, cache=runpod) == wanted

    def test_main_is_what_the_cache_says_is_main(self, runpod: Path, hub: LoopbackHub) -> None:
        snapshot(runpod, "org/name", "1" * 40, *WHOLE)
        main = snapshot(runpod, "org/name", "2" * 40, *WHOLE, main=True)
        assert locate("org/name", cache=runpod) == main

    def test_a_lower_cased_folder_is_found(self, runpod: Path, hub: LoopbackHub) -> None:
        held = snapshot(runpod, MODEL.lower(), PINNED, *WHOLE, main=True)
        assert locate(MODEL, cache=runpod) == held

    def test_a_cache_without_refs_still_serves(self, runpod: Path, hub: LoopbackHub) -> None:
        held = snapshot(runpod, "org/name", "3" * 40, *WHOLE)
        assert locate("org/name", cache=runpod) == held

    def test_a_subfolder_is_found_inside_the_snapshot(self, runpod: Path, hub: LoopbackHub) -> None:
        held = snapshot(runpod, "org/name", "4" * 40, "deep/config.json", f"deep/{SINGLE}")
        assert locate("org/name/deep", what="audio tokenizer", cache=runpod) == held / "deep"

    def test_a_tokenizer_alone_needs_no_weights(self, runpod: Path, hub: LoopbackHub) -> None:
        held = snapshot(runpod, "org/name", "5" * 40, "tokenizer.json")
        assert locate("org/name", what="tokenizer", cache=runpod) == held

    @pytest.mark.parametrize(
        ("files", "missing"),
        [
            (("tokenizer.json", SINGLE), "it lacks config.json"),
            (("config.json", SINGLE), "it lacks tokenizer.json"),
            (("config.json", "tokenizer.json"), "lacks model.safetensors"),
            (("config.json", "tokenizer.json", INDEX, *SHARDS), None),
            (("config.json", "tokenizer.json", INDEX, SHARDS[0]), "lacks model-00002-of-00002.safetensors"),
            (("config.json", "tokenizer.json", INDEX, SHARDS[0], SINGLE), None),
        ],
        ids=["no config", "no tokenizer", "no weights", "sharded", "a shard missing", "a shard missing, single file"],
    )
    def test_a_part_is_never_taken_for_the_whole(
        self,
        runpod: Path,
        hub: LoopbackHub,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        files: tuple[str, ...],
        missing: str | None,
    ) -> None:
        held = snapshot(runpod, MODEL, PINNED, *files)
        if INDEX in files:
            write_files(held, INDEX, *SHARDS)
            for shard in set(SHARDS) - set(files):
                (held / shard).unlink()
        hub.add(MODEL, write_files(tmp_path / "served", *WHOLE), PINNED)
        found = locate(MODEL, also=("tokenizer.json",), cache=runpod)
        assert (found == held) is (missing is None)
        assert missing is None or missing in caplog.text

    @pytest.mark.parametrize("damage", ["cut short", "empty", "no header"])
    def test_weights_that_are_cut_short_are_no_weights(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path, damage: str
    ) -> None:
        held = snapshot(runpod, MODEL, PINNED, *SHARDED)
        content = (held / SHARDS[1]).read_bytes()
        broken = {"cut short": content[:-1], "empty": b"", "no header": b"\xff" * 40}[damage]
        (held / SHARDS[1]).write_bytes(broken)
        hub.add(MODEL, write_files(tmp_path / "served", *WHOLE), PINNED)
        assert locate(MODEL, cache=runpod) != held

    def test_a_part_in_the_cache_and_no_hub_is_an_error_and_not_a_model(
        self, runpod: Path, hub: LoopbackHub, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot(runpod, MODEL, PINNED, "config.json")
        with pytest.raises(ModelLoadError, match="cannot be downloaded"):
            locate(MODEL, cache=runpod)
        assert "does not hold" in caplog.text


class TestHubCache:
    @pytest.mark.parametrize("held", [MODEL, NEW_NAME])
    def test_what_it_holds_whole_is_taken_without_asking_the_hub(
        self, runpod: Path, hub: LoopbackHub, held: str
    ) -> None:
        found = snapshot(Path(constants.HF_HUB_CACHE), held, PINNED, *WHOLE)
        assert locate(MODEL, cache=runpod) == found
        assert hub.asked == []

    def test_another_revision_is_not_taken(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        other = snapshot(Path(constants.HF_HUB_CACHE), MODEL, "0" * 40, *WHOLE, main=True)
        hub.add(MODEL, write_files(tmp_path / "served", *WHOLE), PINNED)
        assert locate(MODEL, cache=runpod) != other

    def test_a_branch_is_the_commit_that_it_was_when_it_was_downloaded(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path
    ) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *WHOLE), COMMIT)
        first = locate("org/name", cache=runpod)
        hub.asked.clear()
        assert locate("org/name", cache=runpod) == first
        assert hub.asked == []


class TestHub:
    def test_it_is_asked_for_what_the_machine_lacks(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *WHOLE, "README.md", "pytorch_model.bin"), COMMIT)
        found = locate("org/name", cache=runpod)
        assert found.name == COMMIT
        assert files_of(found) == set(WHOLE)

    def test_the_revision_asked_for_is_downloaded(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        served = write_files(tmp_path / "served", *WHOLE)
        hub.add("org/name", served, COMMIT)
        hub.add("org/name", served, "d" * 40, branch="v1.0")
        assert locate("org/name", "v1.0", cache=runpod).name == "d" * 40
        assert locate("org/name", COMMIT, cache=runpod).name == COMMIT

    @pytest.mark.parametrize(("asked", "served"), [(MODEL, NEW_NAME), (NEW_NAME, MODEL)])
    def test_a_name_that_the_hub_does_not_know_gives_way_to_the_other(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path, asked: str, served: str
    ) -> None:
        hub.add(served, write_files(tmp_path / "served", *WHOLE), PINNED)
        assert locate(asked, cache=runpod).name == PINNED

    def test_a_redirect_from_the_old_name_is_followed(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        hub.add(NEW_NAME, write_files(tmp_path / "served", *SHARDED), PINNED)
        hub.moved[MODEL] = NEW_NAME
        assert files_of(locate(MODEL, cache=runpod)) == set(SHARDED)

    def test_weights_that_are_there_twice_are_downloaded_once(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path
    ) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *SHARDED, SINGLE), COMMIT)
        assert files_of(locate("org/name", cache=runpod)) == set(SHARDED)
        assert not hub.served[f"org/name/{SINGLE}"]

    def test_an_index_whose_shards_are_absent_gives_way_to_the_single_file(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path
    ) -> None:
        served = write_files(tmp_path / "served", *SHARDED, SINGLE)
        (served / SHARDS[1]).unlink()
        hub.add("org/name", served, COMMIT)
        assert files_of(locate("org/name", cache=runpod)) == {"config.json", "tokenizer.json", INDEX, SINGLE}
        assert not hub.served[f"org/name/{SHARDS[0]}"]

    def test_of_a_subfolder_only_its_files_are_downloaded(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        names = ("config.json", SINGLE, "audio_tokenizer/config.json", f"audio_tokenizer/{SINGLE}")
        hub.add("k2-fsa/OmniVoice", write_files(tmp_path / "served", *names), COMMIT)
        found = locate("k2-fsa/OmniVoice/audio_tokenizer", what="audio tokenizer", cache=runpod)
        assert files_of(found.parent) == {"audio_tokenizer/config.json", f"audio_tokenizer/{SINGLE}"}
        with pytest.raises(ModelLoadError, match="The audio tokenizer 'k2-fsa/OmniVoice' has no folder 'not/there'"):
            locate("k2-fsa/OmniVoice/not/there", what="audio tokenizer", cache=runpod)

    def test_of_a_tokenizer_no_weights_are_downloaded(self, runpod: Path, hub: LoopbackHub, tmp_path: Path) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *WHOLE), COMMIT)
        assert files_of(locate("org/name", what="tokenizer", cache=runpod)) == {"config.json", "tokenizer.json"}

    def test_a_download_that_broke_off_goes_on_and_is_whole_in_the_end(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path
    ) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *WHOLE), COMMIT)
        hub.breaks[SINGLE] = 1
        found = locate("org/name", cache=runpod)
        assert (found / SINGLE).read_bytes() == (tmp_path / "served" / SINGLE).read_bytes()

    def test_a_download_that_never_ends_leaves_nothing_that_passes_for_a_checkpoint(
        self, runpod: Path, hub: LoopbackHub, tmp_path: Path
    ) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *SHARDED), COMMIT)
        hub.breaks[SHARDS[1]] = 1000
        with pytest.raises(ModelLoadError, match="cannot be downloaded: the hub did not answer as expected"):
            locate("org/name", cache=runpod)
        hub.breaks.clear()
        found = locate("org/name", cache=runpod)
        assert (found / SHARDS[1]).read_bytes() == (tmp_path / "served" / SHARDS[1]).read_bytes()

    @pytest.mark.parametrize(
        ("refuses", "remedy"),
        [
            ((403, "GatedRepo"), "ask for access on the hub and set HF_TOKEN"),
            ((404, "RepoNotFound"), "check the name, and set HF_TOKEN if"),
            ((401, "RepoNotFound"), "check the name, and set HF_TOKEN if"),
            ((404, "RevisionNotFound"), "no such revision"),
            ((503, "Busy"), r"did not answer as expected \(\w+\); check the network or use a local folder"),
        ],
        ids=lambda value: value[1] if isinstance(value, tuple) else "",
    )
    def test_each_refusal_of_the_hub_becomes_one_sentence_with_a_remedy(
        self,
        runpod: Path,
        hub: LoopbackHub,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        refuses: tuple[int, str],
        remedy: str,
    ) -> None:
        hub.add("org/name", write_files(tmp_path / "served", *WHOLE), COMMIT).refuses = refuses
        monkeypatch.setenv("HF_TOKEN", "hf_words")
        with pytest.raises(ModelLoadError, match=remedy) as raised:
            locate("org/name", what="audio tokenizer", cache=runpod)
        sentence = raised.value.message
        assert sentence.startswith("The audio tokenizer 'org/name' (revision main) cannot be downloaded: ")
        assert "\n" not in sentence
        assert "hf_words" not in sentence
        assert hub.endpoint not in sentence

    @pytest.mark.parametrize(
        ("failure", "remedy"),
        [
            (ConnectionError("no"), r"\(ConnectionError\); check the network or use a local folder"),
            (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; give the container a larger one"),
            (OSError(errno.EROFS, "Read-only file system"), "its folder cannot be written; set HF_HOME"),
            (PermissionError(errno.EACCES, "Permission denied"), "its folder cannot be written; set HF_HOME"),
            (RuntimeError("secret-path"), r"\(RuntimeError\)"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
    )
    def test_what_breaks_on_this_machine_does_too(
        self, runpod: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, failure: Exception, remedy: str
    ) -> None:
        def fail(*_: Any, **__: Any) -> str:
            raise failure

        monkeypatch.setattr(module, "snapshot_download", fail)
        with pytest.raises(ModelLoadError, match=remedy) as raised:
            locate("org/name", cache=runpod)
        assert "secret-path" not in raised.value.message

    def test_no_hub_at_all_says_so(self, runpod: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelLoadError, match="check the network or use a local folder"):
            locate("org/name", cache=runpod)

    def test_a_name_that_the_hub_would_not_allow_is_refused(self, runpod: Path, hub: LoopbackHub) -> None:
        with pytest.raises(ModelLoadError, match="org/na me"):
            locate("org/na me", cache=runpod)


@pytest.fixture
def nobody() -> Iterator[int]:
    """This process without rights, where it has any: root may read every folder."""
    root, user = os.geteuid() == 0, 65_534
    if root:
        os.seteuid(user)
    try:
        yield os.geteuid()
    finally:
        if root:
            os.seteuid(0)


class TestFoldersOfAnotherUser:
    def test_a_cache_that_may_not_be_read_is_passed_over_and_the_log_says_so(
        self, runpod: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, nobody: int
    ) -> None:
        """A volume may be root's alone, and the image's user is not root."""
        locked = Path(tempfile.mkdtemp())
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(locked / "none"))
        try:
            snapshot(locked / "runpod", "org/name", COMMIT, *WHOLE)
            (locked / "runpod").chmod(0)
            with pytest.raises(ModelLoadError):
                locate("org/name", cache=locked / "runpod")
        finally:
            (locked / "runpod").chmod(0o700)
            shutil.rmtree(locked)
        assert f"cannot be read by the user {nobody}; looking further" in caplog.text
