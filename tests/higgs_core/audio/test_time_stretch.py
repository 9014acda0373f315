"""WSOLA changes how long speech lasts and nothing else that can be heard, whole or in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgs_core.audio import decode_audio
from higgs_core.audio.time_stretch import TimeStretch
from tests.helpers.paths import ROOT
from tests.helpers.pitch import median_pitch

RATE = 24_000
SPEEDS = [0.25, 0.5, 0.8, 1.25, 2.0, 3.0, 4.0]
LAG_SECONDS = 0.04


def tone(seconds: float, hertz: float = 300) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def speech() -> NDArray[np.float32]:
    return decode_audio((ROOT / "test_inputs/assets/reference.wav").read_bytes(), origin="the clip")


def stretched(audio: NDArray[np.float32], speed: float, block: int = 5_000) -> NDArray[np.float32]:
    stretch = TimeStretch(speed)
    parts = [stretch.write(audio[at : at + block]) for at in range(0, len(audio), block)]
    return np.concatenate([*parts, stretch.finish()])


def envelope(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The level of each hundredth of a second."""
    frames = audio[: len(audio) // 240 * 240].reshape(-1, 240)
    level: NDArray[np.float32] = np.sqrt(np.square(frames).mean(axis=1))
    return level


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_length_is_exact_and_the_pitch_stays(speed: float) -> None:
    audio = speech()
    changed = stretched(audio, speed)
    assert len(changed) == round(len(audio) / speed)
    assert median_pitch(changed) == pytest.approx(median_pitch(audio), rel=0.03)


@pytest.mark.parametrize("speed", SPEEDS)
def test_every_sound_comes_where_its_time_divided_by_the_speed_is(speed: float) -> None:
    audio = speech()
    before, after = envelope(audio), envelope(stretched(audio, speed))
    at = np.minimum((np.arange(len(after)) * speed).astype(int), len(before) - 1)
    assert np.corrcoef(before[at], after)[0, 1] > (0.9 if speed <= 2 else 0.7)
    assert np.abs(after).max() == pytest.approx(before.max(), rel=0.2)


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_tone_stays_a_tone_without_clicks(speed: float) -> None:
    """A click is a step between two samples that is larger than any of the tone itself."""
    audio = tone(2)
    changed = stretched(audio, speed)[RATE // 50 : -RATE // 50]
    assert np.abs(np.diff(changed)).max() <= 1.05 * np.abs(np.diff(audio)).max()
    assert np.abs(changed).max() <= 0.51
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed))))
    assert np.argmax(spectrum) * RATE / len(changed) == pytest.approx(300, abs=6)


@pytest.mark.parametrize("speed", [0.25, 0.7, 1.6, 4.0])
def test_blocks_of_any_size_give_the_same_samples(speed: float) -> None:
    audio = speech()[: 2 * RATE]
    whole = stretched(audio, speed, len(audio))
    for block in (1_111, 360, 77):
        np.testing.assert_array_equal(stretched(audio, speed, block), whole)


@pytest.mark.parametrize("speed", SPEEDS)
def test_what_comes_out_lags_by_a_bounded_time(speed: float) -> None:
    stretch = TimeStretch(speed)
    came = 0
    for block in range(1, 60):
        came += len(stretch.write(tone(0.02)))
        given = block * 0.02
        assert given - LAG_SECONDS - 0.015 * max(1.0, speed) <= came / RATE * speed <= given


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("samples", [1, 2, 100, 719, 720, 721])
def test_the_shortest_audio_has_its_exact_length(samples: int, speed: float) -> None:
    changed = stretched(tone(1, 301)[100 : 100 + samples], speed, 50)
    assert len(changed) == max(1, round(samples / speed))
    assert np.abs(changed).max() > 0


def test_silence_stays_silence_and_nothing_stays_nothing() -> None:
    assert not stretched(np.zeros(RATE, np.float32), 0.6).any()
    assert len(TimeStretch(2).finish()) == 0


def test_a_sample_that_is_no_number_is_still_seen_by_the_encoder() -> None:
    assert np.isnan(stretched(np.full(RATE, np.nan, np.float32), 1.5)).any()


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_an_error(speed: float) -> None:
    with pytest.raises(ValueError, match="speed is"):
        TimeStretch(speed)
