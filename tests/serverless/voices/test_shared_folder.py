"""A folder that others change while a voice is made, and what may lie about in it."""

from __future__ import annotations

import asyncio
import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from serverless.config.settings import Settings
from serverless.voices import folder_scan
from serverless.voices.calibration import CALIBRATION_SENTENCE
from serverless.voices.errors import VoiceExistsError, VoiceNotFoundError
from serverless.voices.folder import VoiceFolder
from serverless.voices.store import VoiceStore
from serverless.voices.voice_file import VoiceRecord
from tests.helpers.living_voices import CODES, DESIGN, RECORD, TONE, WatchedEngine, codes_of, library
from tests.helpers.voices import voice_folder

# -- Somebody else changes it meanwhile -------------------------------------------------------------------------------


def test_an_added_voice_gives_way_to_one_of_the_operator_that_comes_while_it_is_made(
    tiny_engine: HiggsAudioEngine, folder: Path
) -> None:
    def operator_copies() -> None:
        (voice_folder(folder) / "config.json").rename(folder / "new.json")
        (folder / "new.json").rename(folder / "config.json")

    with library(WatchedEngine(tiny_engine, before_making=operator_copies), folder) as living:
        with pytest.raises(VoiceExistsError, match="There is a voice Belinda already"):
            asyncio.run(living.add_design("Belinda", "calm", 1))
        assert not list(folder.glob("*.safetensors"))
        assert len(codes_of(living, "belinda")[0]) == 25  # of its own clip


@pytest.mark.parametrize("theirs", [None, RECORD])
def test_a_voice_that_another_worker_deletes_or_replaces_while_it_is_made_does_not_come_back(
    theirs: VoiceRecord | None, tiny_engine: HiggsAudioEngine, folder: Path
) -> None:
    store = VoiceStore(folder)

    def other_worker() -> None:
        store.remove("mine")
        if theirs is not None:
            store.write(theirs, replace=False)

    identity = tiny_engine.identity
    if theirs is not None:
        theirs = replace(theirs, model=identity.model, codec=identity.codec)
    store.write(replace(DESIGN, transcript=CALIBRATION_SENTENCE), replace=False)
    with library(WatchedEngine(tiny_engine, before_making=other_worker), folder) as living:
        assert codes_of(living, "mine")  # whoever had asked for it gets it
        if theirs is None:
            with pytest.raises(VoiceNotFoundError):
                asyncio.run(living.get("mine"))
            assert not list(folder.iterdir())
        else:
            assert codes_of(living, "mine") == CODES.tolist()


# -- What lies about in it --------------------------------------------------------------------------------------------


def test_of_too_many_files_those_of_workers_are_read_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folder_scan, "MAX_FILES", 3)
    (voice_folder(folder) / "belinda.wav").rename(folder / "0.wav")
    (folder / "config.json").write_text('{"belinda": {"transcript": "A tone.", "audio_file": "0.wav"}}')
    for number in range(8):
        (folder / f"clip{number}.wav").write_bytes(b"")
        (folder / f"clip{number}.txt").write_bytes(b"")
        (folder / f"note{number}").write_bytes(b"")
    for name in ("mine", "zoe"):
        VoiceStore(folder).write(replace(RECORD, name=name), replace=False)
    reader = VoiceFolder(folder, Settings())
    for _ in range(2):
        found = reader.read()
        assert (list(found.voices), list(found.records)) == (["belinda"], ["mine", "zoe"])
    assert reader.sure_of("mine")
    assert not reader.sure_of("anna")
    assert [record.getMessage() for record in caplog.records] == [
        "The voice folder has more files than are looked at; some of its voices may be missing."
    ]


def test_a_name_that_a_file_of_another_kind_holds_is_refused_with_what_to_do(
    tiny_engine: HiggsAudioEngine, folder: Path
) -> None:
    (folder / "anna.safetensors").write_bytes(b"not a voice")
    with library(WatchedEngine(tiny_engine), folder) as living:
        with pytest.raises(VoiceExistsError) as failure:
            asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert failure.value.message == "The voice folder has a file of the name anna that is no voice."
        assert failure.value.hint == "Choose another name, or have the file removed."
    assert (folder / "anna.safetensors").read_bytes() == b"not a voice"


def test_a_name_that_a_killed_worker_held_is_free_again(
    tiny_engine: HiggsAudioEngine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = folder / "anna.safetensors"
    held.write_bytes(b"")
    os.utime(held, (1_700_000_000 - 4000, 1_700_000_000 - 4000))  # the library's clock says 1 700 000 000
    (folder / "bob.safetensors").write_bytes(b"")
    os.utime(folder / "bob.safetensors", (1_700_000_000, 1_700_000_000))
    with library(WatchedEngine(tiny_engine), folder) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
    assert (folder / "bob.safetensors").exists()  # somebody may be writing it
    assert not caplog.records


def test_a_file_system_without_hard_links_that_fails_holds_no_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EPERM, "as told")

    def full(*_: Any) -> None:
        raise OSError(errno.EDQUOT, "as told")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", unsupported)
        patch.setattr("os.replace", full)
        assert not VoiceStore(folder).write(RECORD, replace=False)
    assert not list(folder.iterdir())
