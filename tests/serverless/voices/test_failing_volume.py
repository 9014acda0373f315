"""A volume that fails in the midst: nothing is lost, and nothing that was deleted comes back."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import BusyError
from serverless.voices.errors import VoiceFixedError
from serverless.voices.folder import VoiceFolder
from serverless.voices.store import VoiceStore
from serverless.voices.voice_file import VoiceRecord
from tests.helpers.living_voices import RECORD, TONE, Clock, WatchedEngine, codes_of, ids, library
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.voices import voice_folder


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """The volume is not mounted, and its folder is not there."""
    folder.rename(folder.with_name("away"))
    try:
        yield
    finally:
        folder.with_name("away").rename(folder)


def take_away(folder: Path) -> None:
    """A file lies where the folder was."""
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")


def bring_back(folder: Path) -> None:
    folder.unlink()
    folder.with_name("away").rename(folder)


@contextmanager
def gone_once_settled(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The volume goes as soon as a change of it is on the disk: when the folder itself is written through."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            take_away(folder)

    with patch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield
    assert folder.is_file()


@contextmanager
def unreadable(file: str, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever opens the file hears of a fault of the disk."""
    real: Callable[..., int] = os.open

    def failing(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(path).endswith(file):
            raise OSError(errno.EIO, "as told")
        return real(path, *arguments, **options)

    with patch.context() as patched:
        patched.setattr(os, "open", failing)
        yield


# -- The folder goes away ---------------------------------------------------------------------------------------------


def test_a_voice_that_was_written_is_there_although_the_folder_cannot_be_listed_any_more(
    tiny_engine: HiggsAudioEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, engine = Clock(), WatchedEngine(tiny_engine)
    with library(engine, folder, clock) as living:
        with gone_once_settled(folder, monkeypatch):
            added = asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert (added.facts.id, added.facts.source, added.facts.ready) == ("anna", "uploaded", True)
        assert added.warnings == ()
        codes = codes_of(living, "anna")
        clock.seconds += 2
        assert "anna" in ids(living)
        bring_back(folder)
        clock.seconds += 2
        assert codes_of(living, "anna") == codes
    with library(engine, folder) as living:
        assert codes_of(living, "anna") == codes


def test_a_voice_that_was_deleted_stays_so_although_the_folder_cannot_be_listed_any_more(
    tiny_engine: HiggsAudioEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with library(WatchedEngine(tiny_engine), folder) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        with gone_once_settled(folder, monkeypatch):
            asyncio.run(living.remove("anna"))
        assert "anna" not in ids(living)
        bring_back(folder)
        assert not list(folder.iterdir())


def test_nothing_is_called_deleted_while_the_volume_is_away(tiny_engine: HiggsAudioEngine, folder: Path) -> None:
    with library(WatchedEngine(tiny_engine), folder) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        with away(folder), pytest.raises(VoiceFixedError, match="anna cannot be deleted, because the voice folder"):
            asyncio.run(living.remove("anna"))
        assert "anna" in ids(living)
        asyncio.run(living.remove("anna"))
    assert not list(folder.iterdir())


# -- The volume hangs -------------------------------------------------------------------------------------------------


def test_a_volume_that_hangs_holds_up_nobody(
    tiny_engine: HiggsAudioEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    real = os.scandir

    def hanging(path: Any) -> Any:
        if path == folder:
            hangs.set()
            assert goes_on.wait(PATIENCE)
        return real(path)

    clock, engine = Clock(), WatchedEngine(tiny_engine)
    voice_folder(folder)
    with library(engine, folder, clock, patience=0) as living, monkeypatch.context() as patch:
        (folder / "config.json").write_text('{"calm": {"description": "calm", "seed": 1}}')
        patch.setattr(os, "scandir", hanging)
        clock.seconds += 2
        assert "belinda" in living.snapshot()  # as it was
        assert hangs.wait(PATIENCE)
        for _ in range(3):
            clock.seconds += 2
            assert "belinda" in ids(living)
        alloy = codes_of(living, "alloy")  # made now, and kept in memory alone
        assert codes_of(living, "alloy") == alloy
        assert engine.made == 1
        for change in (living.add_clip("anna", TONE, "A tone."), living.remove("belinda")):
            with pytest.raises(BusyError, match="The voice folder does not answer"):
                asyncio.run(change)
        goes_on.set()
        wait_until(lambda: "calm" in living.snapshot())
        assert not list(folder.glob("*.safetensors"))


# -- A file cannot be read for a moment -------------------------------------------------------------------------------


def test_what_cannot_be_read_for_a_moment_stays_as_it_was_and_is_read_later(
    tiny_engine: HiggsAudioEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    voice_folder(folder)
    clock = Clock()
    with library(WatchedEngine(tiny_engine), folder, clock) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        for file in ("anna.safetensors", "belinda.wav", "config.json"):
            with unreadable(file, monkeypatch):
                os.utime(folder / file)
                clock.seconds += 2
                assert {"anna", "belinda"} <= set(ids(living))
        with unreadable("bob.safetensors", monkeypatch), unreadable("config.json", monkeypatch):
            VoiceStore(folder).write(replace(RECORD, name="bob"), replace=False)
            (folder / "config.json").write_text('{"calm": {"description": "calm"}}')
            clock.seconds += 2
            assert not {"bob", "calm"} & set(ids(living))
        clock.seconds += 2
        assert {"anna", "bob", "calm"} <= set(ids(living))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "HIGGS_AUDIO_VOICES_DIR: voice 'anna': its files cannot be read at the moment. "
        "It stays as it was and is tried again.",
        "HIGGS_AUDIO_VOICES_DIR: voice 'belinda': its files cannot be read at the moment. "
        "It stays as it was and is tried again.",
        "HIGGS_AUDIO_VOICES_DIR: config.json is refused: it cannot be opened. It stays as it was and is tried again.",
        "HIGGS_AUDIO_VOICES_DIR: voice 'bob': its files cannot be read at the moment. "
        "It stays as it was and is tried again.",
    ]


def test_a_clip_for_another_codec_that_cannot_be_read_is_back_as_soon_as_it_can(
    tiny_engine: HiggsAudioEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    VoiceStore(folder).write(RECORD, replace=False)
    clock, engine = Clock(), WatchedEngine(tiny_engine)
    with library(engine, None) as living:
        own = codes_of_clip(living)
    reads: list[bool] = [True, False]  # its codes are read when the library opens, its audio for the engine
    real = VoiceFolder.read_record

    def read_record(self: VoiceFolder, name: str) -> VoiceRecord:
        with unreadable("nothing" if not reads or reads.pop(0) else "mine.safetensors", monkeypatch):
            return real(self, name)

    monkeypatch.setattr(VoiceFolder, "read_record", read_record)
    with library(engine, folder, clock) as living:
        assert "mine" not in living.snapshot()
        clock.seconds += 2
        assert codes_of(living, "mine") == own


def codes_of_clip(living: Any) -> list[list[int]]:
    asyncio.run(living.add_clip("clip", np.full(28_800, 1 / 32768, np.float32), "Words."))
    return codes_of(living, "clip")
