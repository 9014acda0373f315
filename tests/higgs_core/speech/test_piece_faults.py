"""What is taken for a fault of a piece, on codes and lengths made by hand, and which of several generations stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from higgs_core.speech.piece_faults import Fault, faults_of, harm_of, has_loop
from higgs_core.text.speech_length import SpeechLength
from tests.helpers.pieces import looping_codes, spoken_codes

LENGTH = SpeechLength(25, 300)


def faults(frames: int = 100, **fields: Any) -> tuple[Fault, ...]:
    given = {"codes": spoken_codes(frames), "sounding_frames": frames, "silent_frames": 0, "cut_off": False}
    return faults_of(**given | {"length": LENGTH, "ras": True} | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ()),
        ({"sounding_frames": 25}, ()),
        ({"sounding_frames": 24}, (Fault.TOO_SHORT,)),
        ({"frames": 300}, ()),
        ({"frames": 301}, (Fault.TOO_LONG,)),
        ({"cut_off": True}, (Fault.CUT_OFF,)),
        ({"sounding_frames": 24, "cut_off": True}, (Fault.CUT_OFF,)),
        ({"sounding_frames": 24, "silent_frames": 50, "cut_off": True}, (Fault.TOO_SHORT, Fault.SILENT_END)),
        ({"silent_frames": 49}, ()),
        ({"silent_frames": 50}, (Fault.SILENT_END,)),
        ({"silent_frames": 49, "cut_off": True}, (Fault.CUT_OFF,)),
        ({"silent_frames": 50, "cut_off": True}, (Fault.SILENT_END,)),
        ({"sounding_frames": 0, "silent_frames": 90, "cut_off": True}, (Fault.NO_AUDIO,)),
        ({"codes": np.zeros((0, 0), int), "sounding_frames": 0}, (Fault.NO_AUDIO,)),
        ({"codes": looping_codes(100, 20)}, (Fault.LOOP,)),
        ({"codes": looping_codes(100, 20), "ras": False}, ()),
        ({"codes": looping_codes(100, 20), "cut_off": True}, (Fault.LOOP, Fault.CUT_OFF)),
        ({"sounding_frames": 1, "length": None}, ()),
        ({"frames": 900, "length": None}, ()),
    ],
)
def test_each_fault_on_both_sides_of_its_bound(fields: dict[str, Any], expected: tuple[Fault, ...]) -> None:
    assert faults(**fields) == expected


@pytest.mark.parametrize("period", [1, 2, 7, 8, 25, 60, 125])
def test_three_rounds_of_three_seconds_or_more_are_a_loop(period: int) -> None:
    rounds = max(75, 3 * period)
    speech = spoken_codes(150, seed=1)
    assert has_loop(np.concatenate([speech, looping_codes(rounds, period), speech], axis=1))
    assert not has_loop(np.concatenate([speech, looping_codes(2 * period, period), speech], axis=1))


def test_a_loop_need_not_be_exact() -> None:
    random = np.random.default_rng(0)
    codes = looping_codes(160, 40)
    codes[4:] = random.integers(0, 1024, (4, 160))  # the finer codebooks never repeat
    codes[:, random.random(160) < 0.02] = 7
    assert has_loop(codes)


def test_silence_inside_the_silent_end_is_no_loop() -> None:
    codes = np.concatenate([spoken_codes(60), looping_codes(100, 1)], axis=1)
    assert faults(codes=codes, sounding_frames=60, silent_frames=100) == (Fault.SILENT_END,)


@pytest.mark.parametrize("frames", [1, 2, 74, 75, 500, 2600])
def test_speech_is_no_loop(frames: int) -> None:
    assert not has_loop(spoken_codes(frames))


def test_codebooks_that_always_hold_the_same_code_are_no_loop() -> None:
    """Half of them unused, as in the demo voice, with a sampled slip here and there."""
    codes = spoken_codes(300)
    codes[3:7] = 0
    codes[3:7, ::50] = 9
    assert not has_loop(codes)
    codes[[0, 1, 2, 7], 60:260] = looping_codes(200, 25)[:4]
    assert has_loop(codes)


@pytest.mark.parametrize("frames", [75, 400])
def test_a_frame_that_is_held_for_ever_is_a_loop(frames: int) -> None:
    assert has_loop(np.full((8, frames + 1), 5))


def test_repeats_that_ras_lets_pass_are_no_loop() -> None:
    """Two of seven columns alike in every codebook, for a minute."""
    codes = spoken_codes(1500)
    codes[:, 3::7] = codes[:, 0::7][:, : codes[:, 3::7].shape[1]]
    assert not has_loop(codes)


@pytest.mark.parametrize(
    ("attempts", "kept"),
    [
        ([()], 0),
        ([(Fault.SILENT_END,), ()], 1),
        ([(Fault.CUT_OFF,), (Fault.NO_AUDIO,)], 0),
        ([(Fault.LOOP,), (Fault.CUT_OFF,)], 1),
        ([(Fault.LOOP, Fault.CUT_OFF), (Fault.LOOP,)], 1),
        ([(Fault.TOO_SHORT,), (Fault.CUT_OFF,)], 1),
        ([(Fault.CUT_OFF,), (Fault.SILENT_END,), (Fault.SILENT_END,)], 1),
    ],
)
def test_the_generation_that_did_the_least_harm_stays(attempts: list[tuple[Fault, ...]], kept: int) -> None:
    assert min(range(len(attempts)), key=lambda at: harm_of(attempts[at])) == kept
