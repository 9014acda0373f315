"""Loudness is what the standard's meter says, and no gain carries a sample over the ceiling."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgs_core.audio import decode_audio
from higgs_core.audio.loudness import CEILING_DB, amplified, amplitude, gain_to, integrated_loudness
from higgs_core.audio.loudness_stream import HELD_SECONDS, LoudnessStream
from higgs_core.audio.peak_limiter import PeakLimiter
from higgs_core.audio.true_peak import CONTEXT, FRAME, frame_peaks, true_peak
from tests.helpers.paths import ROOT

RATE = 24_000
CEILING = amplitude(CEILING_DB)


def speech(repeats: int = 1) -> NDArray[np.float32]:
    clip = decode_audio((ROOT / "test_inputs/assets/reference.wav").read_bytes(), origin="the clip")
    return np.tile(clip, repeats)


def metered(audio: NDArray[np.float32]) -> float:
    return float(pyloudnorm.Meter(RATE).integrated_loudness(audio.astype(np.float64)))


def through(stage: LoudnessStream | PeakLimiter, audio: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    parts = [stage.write(audio[at : at + block]) for at in range(0, len(audio), block)]
    return np.concatenate([*parts, stage.finish()])


def test_it_is_what_the_meter_says() -> None:
    clip = speech()
    assert integrated_loudness(clip) == pytest.approx(metered(clip), abs=0.001)


def test_audio_that_is_measured_minute_by_minute_is_gated_as_a_whole() -> None:
    """Most of it lies below the relative gate, which each minute by itself would not notice."""
    clip = speech()
    minutes = np.concatenate([np.tile(clip * 0.05, 65 * RATE // len(clip)), np.tile(clip, 65 * RATE // len(clip))])
    assert integrated_loudness(minutes) == pytest.approx(metered(minutes), abs=0.02)


@pytest.mark.parametrize("samples", [1, 7, 100, 4_097, 9_599, 9_600, 9_601])
def test_speech_shorter_than_a_block_of_the_meter_has_a_loudness(samples: int) -> None:
    loudest = int(np.argmax(np.abs(speech())))
    short = speech()[max(0, loudest - samples // 2) :][:samples]
    found = integrated_loudness(short)
    assert found is not None
    assert -60 < found < 0


def test_silence_and_what_is_no_number_have_none() -> None:
    for audio in (np.zeros(0), np.zeros(RATE), np.full(RATE, 1e-6), np.full(RATE, np.nan)):
        assert integrated_loudness(audio.astype(np.float32)) is None


def test_a_peak_between_two_samples_is_found() -> None:
    """A tone at a quarter of the rate whose samples all lie 3 dB below its peak."""
    tone = np.sin(2 * np.pi * np.arange(RATE) / 4 + np.pi / 4).astype(np.float32)
    assert np.abs(tone).max() == pytest.approx(0.7071, abs=0.001)
    assert true_peak(tone) == pytest.approx(1, abs=0.06)
    assert true_peak(np.zeros(0, np.float32)) == 0


def test_the_peak_of_a_frame_depends_on_nothing_beyond_its_context() -> None:
    clip = speech()[: CONTEXT * 2 + FRAME * 40]
    together = frame_peaks(clip)
    for index in range(40):
        alone = frame_peaks(clip[index * FRAME : (index + 1) * FRAME + 2 * CONTEXT])
        assert alone[0] == together[index]


@pytest.mark.parametrize("target", [-30.0, -23.0, -20.0])
def test_the_gain_brings_speech_to_its_target(target: float) -> None:
    found = gain_to(speech(), target)
    assert found is not None
    gain, missing = found
    assert missing == 0
    assert metered(amplified(speech(), gain)) == pytest.approx(target, abs=0.01)


def test_a_gain_that_would_clip_is_lowered_and_says_by_how_much() -> None:
    found = gain_to(speech(), -10)
    assert found is not None
    gain, missing = found
    louder = amplified(speech(), gain)
    assert missing > 1
    assert metered(louder) == pytest.approx(-10 - missing, abs=0.01)
    assert true_peak(louder) == pytest.approx(CEILING, rel=0.001)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    gain=st.floats(-20, 60),
    block=st.sampled_from([50, 333, 4_000]),
    seconds=st.floats(0.001, 0.6),
)
def test_no_sample_ever_passes_the_ceiling(seed: int, gain: float, block: int, seconds: float) -> None:
    """Noise whose level jumps by up to 80 dB every few milliseconds."""
    draw = np.random.default_rng(seed)
    samples = max(1, int(seconds * RATE))
    levels = 10 ** draw.uniform(-4, 0, samples // 100 + 1).repeat(100)[:samples]
    audio = (draw.uniform(-1, 1, samples) * levels).astype(np.float32)
    limiter = PeakLimiter(gain)
    limited = through(limiter, audio, block)
    assert limited.shape == audio.shape
    assert np.abs(limited).max() <= CEILING
    np.testing.assert_array_equal(limited, through(PeakLimiter(gain), audio, samples))
    assert (np.abs(limited) <= np.abs(audio) * amplitude(gain) * (1 + 1e-6)).all()


def test_audio_without_a_peak_is_only_multiplied() -> None:
    limiter = PeakLimiter(-6.0)
    np.testing.assert_array_equal(through(limiter, speech(), 1_000), amplified(speech(), -6.0))
    assert limiter.most_lowered_db == 0


def test_the_gain_falls_smoothly_before_a_peak_and_recovers_after_it() -> None:
    level = np.full(6 * RATE, 0.1, np.float32)
    level[RATE : RATE + 1_200] = 0.9
    gains = through(PeakLimiter(12.0), level, 999) / level
    assert gains[: RATE - 2_000] == pytest.approx(amplitude(12), rel=1e-5)
    assert (gains[RATE : RATE + 1_200] <= CEILING / 0.9 + 1e-6).all()
    assert np.abs(np.diff(20 * np.log10(gains))).max() < 0.02  # dB from one sample to the next
    assert gains[-RATE:] == pytest.approx(amplitude(12), rel=1e-5)


@pytest.mark.parametrize("block", [999, 24_000])
def test_a_stream_has_the_gain_of_its_first_seconds(block: int) -> None:
    quiet = speech(2) * np.float32(0.3)
    found = gain_to(quiet[: int(HELD_SECONDS * RATE)], -23)
    assert found is not None
    stream = LoudnessStream(-23)
    np.testing.assert_array_equal(through(stream, quiet, block), amplified(quiet, found[0]))
    assert (stream.missing_db, stream.lowered_db) == (0, 0)


def test_nothing_of_a_stream_leaves_before_its_first_seconds_are_there() -> None:
    stream = LoudnessStream(-23)
    held = int(HELD_SECONDS * RATE)
    assert len(stream.write(speech(3)[: held - 1])) == 0
    left = stream.write(speech(3)[held - 1 : held])
    assert held - 0.07 * RATE < len(left) <= held


@pytest.mark.parametrize("samples", [1, 100, 9_600, 40_000])
def test_a_stream_that_ends_before_that_is_measured_as_a_whole(samples: int) -> None:
    short = speech()[6_000 : 6_000 + samples]
    found = gain_to(short, -25)
    assert found is not None
    np.testing.assert_array_equal(through(LoudnessStream(-25), short, 700), amplified(short, found[0]))


def test_silent_seconds_pass_and_the_first_that_are_heard_set_the_gain() -> None:
    silence = np.zeros(int(HELD_SECONDS * RATE), np.float32)
    stream = LoudnessStream(-25)
    louder = through(stream, np.concatenate([silence, silence, speech()]), 5_000)
    assert not louder[: 2 * len(silence)].any()
    np.testing.assert_array_equal(louder[2 * len(silence) :], through(LoudnessStream(-25), speech(), 999))
    unheard = LoudnessStream(-25)
    np.testing.assert_array_equal(through(unheard, silence, 1_000), silence)
    assert unheard.missing_db is None


def test_a_later_peak_is_lowered_and_told() -> None:
    loud_end = np.concatenate([speech() * np.float32(0.05), speech()])
    stream = LoudnessStream(-20)
    limited = through(stream, loud_end, 2_400)
    assert np.abs(limited).max() <= CEILING
    assert stream.lowered_db > 3
