"""A folder of voices that takes no files, and no folder at all."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from serverless.voices.errors import TooManyVoicesError, VoiceFixedError
from tests.helpers.living_voices import TONE, WatchedEngine, codes_of, ids, library


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_folder_degrades_to_memory_with_one_line(
    fault: int,
    tiny_engine: HiggsAudioEngine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(fault, "as told")

    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert codes_of(living, "alloy") == codes_of(living, "alloy")
        codes_of(living, "echo")
        added = asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert added.warnings == ("No writable voice folder is set, so the voice anna lasts until this worker ends.",)
        assert codes_of(living, "anna")
        assert not list(tmp_path.iterdir())
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert lines == [
            f"The voice folder takes no files ({errno.errorcode[fault]}); voices are kept in memory until it does"
        ]
        assert engine.made == 2
    with library(engine, tmp_path) as living:
        codes_of(living, "alloy")
    assert [file.name for file in tmp_path.iterdir()] == ["alloy.safetensors"]


def test_a_library_that_is_read_only_writes_and_removes_nothing(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with library(engine, tmp_path, voices_read_only=True) as living:
        assert codes_of(living, "alloy") == codes_of(living, "alloy")
        asyncio.run(living.add_clip("bob", TONE, "A tone."))
        asyncio.run(living.remove("bob"))
        with pytest.raises(VoiceFixedError, match="anna cannot be deleted, because the voice folder cannot be changed"):
            asyncio.run(living.remove("anna"))
        assert codes_of(living, "anna")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_memory_alone_keeps_can_be_heard_and_removed(tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None, max_saved_voices=1) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        np.testing.assert_allclose(asyncio.run(living.preview("anna")).audio, TONE, atol=1e-4)
        with pytest.raises(TooManyVoicesError, match="at most 1 added voices"):
            asyncio.run(living.add_clip("bob", TONE, "A tone."))
        asyncio.run(living.remove("anna"))
        assert "anna" not in ids(living)
        asyncio.run(living.add_clip("bob", TONE, "A tone."))


def test_a_voice_of_memory_goes_together_with_the_file_of_its_name(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "as told")

    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as one, library(engine, tmp_path) as other:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            asyncio.run(one.add_clip("anna", TONE, "A tone."))
        asyncio.run(other.add_clip("anna", TONE, "A tone."))
        asyncio.run(one.remove("anna"))
        assert "anna" not in ids(one)
        assert not list(tmp_path.iterdir())
