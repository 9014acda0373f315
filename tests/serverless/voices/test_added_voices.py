"""Voices that are added to the library, shown and removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import RequestError
from higgs_core.speech.voices import DEFAULT_VOICE
from serverless.voices.errors import VoiceFixedError, VoiceNotFoundError
from serverless.voices.shipped import shipped_designs
from tests.helpers.living_voices import TONE, WatchedEngine, ids, library, run, serving
from tests.helpers.voices import voice_folder


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_voice_is_saved_from_a_results_codes(
    with_folder: bool, tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    engine = WatchedEngine(tiny_engine)
    with serving(engine, voices_dir=tmp_path if with_folder else None) as service:
        codes = run(service, return_audio_tokens=True)["generated_audio_tokens"]
        added = asyncio.run(service.voices.add_saved("mine", np.array(codes, np.int16), "Hi."))
        assert (added.facts.source, added.facts.ready, added.facts.deletable) == ("saved", True, True)
        assert bool(added.warnings) != with_folder
        assert "error" not in run(service, voice="mine")
        assert "error" not in run(service, references=[{"audio_tokens": codes, "transcript": "Hi."}])
        assert engine.given == [codes, codes]
        preview = asyncio.run(service.voices.preview("mine")).audio
        assert preview is not None
        assert preview.dtype == np.float32
        assert len(preview) == 960 * len(codes[0])


def test_every_voice_says_where_it_came_from(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        asyncio.run(living.add_clip("night_reader-2", TONE, "A tone.", description="my own"))
        asyncio.run(living.add_design("mine", "calm"))
        listed = asyncio.run(living.listed())
    assert listed[0].source == "model"
    facts = {each.id: each for each in listed}
    assert list(facts) == [DEFAULT_VOICE, "belinda", "mine", "night_reader-2", *shipped_designs()]
    assert (facts["belinda"].source, facts["belinda"].deletable, facts["belinda"].ready) == ("folder", False, False)
    assert (facts["mine"].source, facts["mine"].description, facts["mine"].deletable) == ("designed", "calm", True)
    assert facts["mine"].seed is not None
    assert (facts["night_reader-2"].name, facts["night_reader-2"].description) == ("Night reader 2", "my own")
    assert facts["alloy"].description == shipped_designs()["alloy"].description


def test_each_kind_of_voice_can_be_heard(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert len(asyncio.run(living.preview("belinda")).audio) == 24_000
        np.testing.assert_allclose(asyncio.run(living.preview("anna")).audio, TONE, atol=1e-4)
        first = asyncio.run(living.preview("alloy")).audio
        assert engine.made == 1  # it was made for this
        (tmp_path / "alloy.safetensors").unlink()
        np.testing.assert_allclose(asyncio.run(living.preview("alloy")).audio, first, atol=1e-3)
        with pytest.raises(VoiceNotFoundError):
            asyncio.run(living.preview("nobody"))


def test_a_preview_is_known_by_what_the_voice_is(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)

    def identities() -> list[str]:
        with library(WatchedEngine(tiny_engine), tmp_path) as living:
            previews = [asyncio.run(living.preview(name)) for name in ("belinda", "anna", "alloy")]
            for name, preview in zip(("belinda", "anna", "alloy"), previews, strict=True):
                held = asyncio.run(living.preview(name, preview.identity.__eq__))
                assert (held.identity, held.audio) == (preview.identity, None)
            return [preview.identity for preview in previews]

    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
    first = identities()
    assert len(set(first)) == 3
    (tmp_path / "alloy.safetensors").unlink()  # the next worker makes the same voice again
    assert identities() == first
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        asyncio.run(living.remove("anna"))
        asyncio.run(living.add_clip("anna", TONE[::2], "A tone."))
    assert identities()[1] != first[1]


def test_only_added_voices_are_removed(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        for name, why in (("alloy", "ships with the worker"), ("belinda", "belongs to the operator's folder")):
            with pytest.raises(VoiceFixedError, match=why):
                asyncio.run(living.remove(name))
        for name in ("nobody", DEFAULT_VOICE, "../belinda", ""):
            with pytest.raises(VoiceNotFoundError):
                asyncio.run(living.remove(name))
        asyncio.run(living.add_design("mine", "calm"))
        asyncio.run(living.remove("mine"))
        with pytest.raises(VoiceNotFoundError):
            asyncio.run(living.remove("mine"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["belinda.wav", "config.json"]


@pytest.mark.parametrize("name", ["", "default", "Default", "a b", "../x", "a" * 65, "größe", "-x", "x.wav", "x\n"])
def test_names_that_are_no_names_are_refused(name: str, tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None) as living, pytest.raises(RequestError) as failure:
        asyncio.run(living.add_design(name, "calm"))
    assert failure.value.field == "name"


@pytest.mark.parametrize(
    ("description", "seed", "field"), [(" ", 1, "description"), ("x" * 1001, 1, "description"), ("calm", -1, "seed")]
)
def test_designs_that_are_none_are_refused(
    description: str, seed: int, field: str, tiny_engine: HiggsAudioEngine
) -> None:
    with library(WatchedEngine(tiny_engine), None) as living, pytest.raises(RequestError) as failure:
        asyncio.run(living.add_design("mine", description, seed))
    assert failure.value.field == field


def test_codes_that_the_codec_does_not_know_are_no_voice(tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None) as living:
        for codes in (np.zeros((7, 30), np.int16), np.full((8, 30), 2000, np.int16), np.zeros((8, 0), np.int16)):
            with pytest.raises(RequestError):
                asyncio.run(living.add_saved("mine", codes, "Hi."))
        with pytest.raises(RequestError, match=r"audio_tokens lasts 61\.0 s; allowed is"):
            asyncio.run(living.add_saved("mine", np.zeros((8, 61 * 25), np.int16), "Hi."))
        with pytest.raises(RequestError, match=r"audio_sample lasts 0\.0 s; allowed is 0\.3 to 60 s"):
            asyncio.run(living.add_clip("mine", TONE[:100], "Hi."))
        assert "mine" not in ids(living)
