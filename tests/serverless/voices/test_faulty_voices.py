"""Designed voices that do not come out well, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from higgs_core.errors import NoAudioError
from tests.helpers.living_voices import SpeakingEngine, codes_of, ids, library
from tests.helpers.simulated_engine import never_sounds, runs_on, speaks_well


def test_a_voice_that_stays_faulty_is_used_and_not_kept(tmp_path: Path) -> None:
    engine = SpeakingEngine(behaviours=(runs_on,))
    with library(engine, tmp_path) as living:
        voice = living.snapshot()["fable"]
        ready = asyncio.run(living.ready([voice]))
        assert len(engine.asked) == 3  # generated again, with seeds of its own
        assert len(set(engine.seeds)) == 3
        (warning,) = ready.warnings
        assert warning.startswith("The voice fable did not come out well when it was made")
        assert asyncio.run(living.ready([voice])).warnings == ready.warnings
        assert not list(tmp_path.iterdir())


def test_the_better_generation_is_kept(tmp_path: Path) -> None:
    engine = SpeakingEngine(behaviours=(runs_on, speaks_well))
    with library(engine, tmp_path) as living:
        ready = asyncio.run(living.ready([living.snapshot()["fable"]]))
        assert ready.warnings == ()
        assert len(engine.asked) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["fable.safetensors"]


def test_a_voice_without_a_sound_is_refused() -> None:
    with library(SpeakingEngine(behaviours=(never_sounds,)), None) as living:
        with pytest.raises(NoAudioError, match="The model made no sound for the voice fable"):
            asyncio.run(living.ready([living.snapshot()["fable"]]))
        with pytest.raises(NoAudioError, match="no sound for the voice mine"):
            asyncio.run(living.add_design("mine", "silent", 1))
        assert "mine" not in ids(living)


def test_an_added_voice_that_stays_faulty_is_made_anew_by_the_next_worker(tmp_path: Path) -> None:
    with library(SpeakingEngine(behaviours=(runs_on,)), tmp_path) as living:
        added = asyncio.run(living.add_design("mine", "calm", 5))
        assert added.warnings
        assert added.facts.ready
        codes = codes_of(living, "mine")
    engine = SpeakingEngine()
    with library(engine, tmp_path) as living:
        assert not asyncio.run(living.get("mine")).ready
        assert codes_of(living, "mine") != codes
        assert engine.seeds == [5]
    with library(engine, tmp_path) as living:
        assert asyncio.run(living.get("mine")).ready
