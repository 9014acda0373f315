"""A folder that changes, that other checkpoints wrote to, and that two workers share."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from serverless.voices.errors import VoiceExistsError
from serverless.voices.shipped import shipped_designs
from tests.helpers.living_voices import TONE, Clock, WatchedEngine, codes_of, ids, library
from tests.helpers.voices import voice_folder

# -- Changes -----------------------------------------------------------------------------------------------------------


def test_changes_of_the_folder_are_seen_without_a_restart(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, clock = WatchedEngine(tiny_engine), Clock()
    voice_folder(tmp_path)
    with library(engine, tmp_path, clock) as living:
        before = living.snapshot()
        belinda = codes_of(living, "belinda")
        (tmp_path / "anna.wav").write_bytes((tmp_path / "belinda.wav").read_bytes())
        (tmp_path / "anna.txt").write_text("A tone again.")
        assert "anna" not in living.snapshot()  # looked at a moment ago
        clock.seconds += 2
        assert living.snapshot()["anna"].transcript == "A tone again."
        assert living.snapshot()["belinda"] is before["belinda"]
        assert codes_of(living, "belinda") == belinda
        assert engine.encoded == 1

        (tmp_path / "anna.txt").write_text("Other words.")
        (tmp_path / "config.json").write_text("{")
        clock.seconds += 2
        assert living.snapshot()["anna"].transcript == "Other words."
        assert "belinda" in living.snapshot()  # as it was before its configuration broke
        for _ in range(3):
            clock.seconds += 2
            living.snapshot()
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            "HIGGS_AUDIO_VOICES_DIR: config.json is not JSON. It is left out."
        ]

        (tmp_path / "config.json").write_text('{"alloy": {"description": "calm", "seed": 3}}')
        (tmp_path / "anna.wav").unlink()
        clock.seconds += 2
        assert living.snapshot()["alloy"].design != shipped_designs()["alloy"]
        assert not {"anna", "belinda"} & set(living.snapshot())
        assert asyncio.run(living.get("alloy")).source == "folder"
        os.rename(tmp_path, tmp_path.with_name("gone"))
        clock.seconds += 2
        assert asyncio.run(living.get("alloy")).source == "folder"  # a volume that is away for a moment


def test_a_request_under_way_keeps_the_voice_that_it_named(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    engine, clock = WatchedEngine(tiny_engine), Clock()
    voice_folder(tmp_path)
    with library(engine, tmp_path, clock) as living:
        belinda = living.snapshot()["belinda"]
        (tmp_path / "config.json").unlink()
        clock.seconds += 2
        assert "belinda" not in living.snapshot()
        assert asyncio.run(living.ready([belinda])).codes[belinda].shape == (8, 25)


def test_a_file_of_somebody_else_is_left_alone_and_named_once(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "alloy.safetensors"
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0not a header at all")
    engine, clock = WatchedEngine(tiny_engine), Clock()
    with library(engine, tmp_path, clock) as living:
        codes_of(living, "alloy")
        clock.seconds += 5
        codes_of(living, "alloy")
        with pytest.raises(VoiceExistsError):
            asyncio.run(living.add_design("Alloy", "calm"))
    assert engine.made == 1
    assert damaged.read_bytes().endswith(b"not a header at all")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "The file of the voice alloy is left alone: it is damaged or no voice."
    ]


# -- Other checkpoints -------------------------------------------------------------------------------------------------


def test_another_model_makes_a_design_anew_and_another_codec_encodes_a_clip_anew(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        codes_of(living, "alloy")
        asyncio.run(living.add_clip("anna", TONE, "A tone.", consent="yes"))
        asyncio.run(living.add_design("mine", "calm", 7))
    own = tiny_engine.identity
    for identity, made, encoded in (
        (replace(own, model="other"), 2, 0),
        (replace(own, model="other"), 0, 0),
        (replace(own, model="other", codec="other"), 2, 1),
        (replace(own, model="other", codec="other"), 0, 0),
    ):
        engine = WatchedEngine(tiny_engine, identity=identity)
        with library(engine, tmp_path) as living:
            codes = [codes_of(living, name) for name in ("alloy", "anna", "mine")]
            assert (engine.made, engine.encoded) == (made, encoded)
            facts = asyncio.run(living.get("anna"))
            assert (facts.source, facts.consent, facts.created_at) == ("uploaded", "yes", 1_700_000_000)
            assert codes_of(living, "anna") == codes[1]


def test_two_workers_with_different_models_do_not_drive_each_other(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    clock = Clock()
    ours = WatchedEngine(tiny_engine)
    theirs = WatchedEngine(tiny_engine, identity=replace(tiny_engine.identity, model="other"))
    with library(ours, tmp_path, clock) as one, library(theirs, tmp_path, clock) as other:
        for _ in range(3):
            codes_of(one, "alloy")
            clock.seconds += 2
            codes_of(other, "alloy")
            clock.seconds += 2
    assert (ours.made, theirs.made) == (1, 1)


# -- Two workers on one volume -----------------------------------------------------------------------------------------


def test_what_one_worker_makes_adds_or_removes_the_other_has(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    clock = Clock()
    ours, theirs = WatchedEngine(tiny_engine), WatchedEngine(tiny_engine)
    with library(ours, tmp_path, clock) as one, library(theirs, tmp_path, clock) as other:
        assert codes_of(one, "alloy") == codes_of(other, "alloy")
        assert (ours.made, theirs.made) == (1, 0)  # seen before it began, without waiting for the next look
        asyncio.run(one.add_clip("anna", TONE, "A tone."))
        with pytest.raises(VoiceExistsError):
            asyncio.run(other.add_clip("anna", TONE, "A tone."))
        assert codes_of(one, "anna") == codes_of(other, "anna")
        asyncio.run(other.remove("anna"))
        clock.seconds += 2
        assert "anna" not in ids(one)


def test_of_two_that_add_a_name_at_once_one_wins_and_the_file_is_whole(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as one, library(engine, tmp_path) as other:

        async def both() -> list[Any]:
            adds = [each.add_clip("anna", TONE, "A tone.") for each in (one, other) for _ in range(3)]
            return await asyncio.gather(*adds, return_exceptions=True)

        outcomes = asyncio.run(both())
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, VoiceExistsError) for outcome in outcomes) == 5
    with library(engine, tmp_path) as living:
        assert codes_of(living, "anna")
    assert [file.name for file in tmp_path.iterdir()] == ["anna.safetensors"]
