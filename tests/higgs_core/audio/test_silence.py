"""Silence at the end of speech, judged as it comes: the same outcome however the audio is cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.audio.silence import NATURAL_FRAMES, SilenceMeter
from higgs_core.rates import FRAME_SAMPLES
from tests.helpers.pieces import silence, tone


def measured(*audio: np.ndarray) -> SilenceMeter:
    meter = SilenceMeter()
    for each in audio:
        meter.add(each)
    return meter


@pytest.mark.parametrize(
    ("audio", "sounding", "silent"),
    [
        ([], 0, 0),
        ([tone(5)], 5, 0),
        ([tone(5), silence(3)], 5, 3),
        ([silence(4)], 0, 4),
        ([silence(4), tone(1)], 5, 0),
        ([tone(5), silence(40), tone(1), silence(2)], 46, 2),
        ([tone(5), tone(3, 0.0009)], 5, 3),  # 40 dB below the speech
        ([tone(5), tone(3, 0.002)], 8, 0),
        ([tone(5, 0.01), tone(3, 0.0015)], 8, 0),  # a whisper is soft from its beginning
        ([tone(5, 0.01), tone(3, 0.0009)], 5, 3),
        ([tone(3, 0.002), tone(5)], 8, 0),  # what comes later silences nothing before it
    ],
)
def test_frames_of_sound_and_of_silence_after_them(audio: list[np.ndarray], sounding: int, silent: int) -> None:
    meter = measured(*audio)
    assert (meter.sounding_frames, meter.silent_frames) == (sounding, silent)


@pytest.mark.parametrize(
    ("frames", "kept"), [(0, 20), (14, 34), (15, 35), (16, 35), (1000, 35)], ids=lambda value: str(value)
)
def test_silence_is_cut_to_a_natural_length(frames: int, kept: int) -> None:
    assert NATURAL_FRAMES == 15
    assert measured(tone(20), silence(frames)).kept_samples == kept * FRAME_SAMPLES


STRETCHES = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=6)


@settings(max_examples=60)
@given(STRETCHES, st.lists(st.integers(1, 9_000), max_size=12))
def test_chunks_change_nothing_and_what_is_kept_never_shrinks(
    stretches: list[tuple[bool, int]], cuts: list[int]
) -> None:
    parts = [tone(frames) if sounds else silence(frames) for sounds, frames in stretches]
    audio = np.concatenate([np.zeros(0, np.float32), *parts, tone(1)[:500]])
    whole, chunked = measured(audio), SilenceMeter()
    kept = [0]
    for chunk in np.split(audio, np.minimum(np.cumsum(cuts), len(audio))):
        chunked.add(chunk)
        kept.append(chunked.kept_samples)
    assert (chunked.sounding_frames, chunked.silent_frames) == (whole.sounding_frames, whole.silent_frames)
    assert kept == sorted(kept)
    assert kept[-1] == whole.kept_samples
