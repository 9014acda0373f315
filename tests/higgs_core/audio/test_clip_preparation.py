"""Reference clips made ready: what is mended, what is left alone, and what a clip is said to lack."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgs_core.audio import encode_audio
from higgs_core.audio.clip_faults import clip_faults, clip_warning
from higgs_core.audio.clip_preparation import (
    HIGHEST_PEAK,
    KEPT_EDGE_SECONDS,
    KEPT_PAUSE_SECONDS,
    TARGET_DB,
    TOLERANCE_DB,
    PreparedClip,
    prepare_clip,
    unprepared_clip,
)
from higgs_core.audio.speech_level import active_level, measure
from higgs_core.errors import ReferenceAudioError
from tests.helpers.paths import ASSETS, CLIP

RATE = 24_000
WORDS = (CLIP.parent / "reference.txt").read_text().strip()

Clip = NDArray[np.float32]


def read(name: str) -> Clip:
    samples: Clip = soundfile.read(ASSETS / name, dtype="float32")[0]
    return samples


SPEECH = read("reference.wav")  # 0.4 s of silence at its end


def silence(seconds: float) -> Clip:
    return np.zeros(round(seconds * RATE), np.float32)


def noise(samples: int, level_db: float) -> Clip:
    return (np.random.default_rng(3).standard_normal(samples) * 10 ** (level_db / 20)).astype(np.float32)


def tone(seconds: float, amplitude: float) -> Clip:
    """It begins and ends at zero, but in mid-sound."""
    return (amplitude * np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def prepared(*parts: Clip) -> PreparedClip:
    return prepare_clip(np.concatenate(parts), origin="references[0]")


def level(clip: Clip) -> float:
    return measure(clip).speech_db


# -- What is left alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference.wav", "second.wav"])
def test_a_good_clip_is_the_very_array_that_came(name: str) -> None:
    clip = read(name)
    before = clip.copy()
    result = prepare_clip(clip, origin="references[0]")
    assert result.waveform is clip
    assert result.done == ()
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize("gain_db", [-9.5, 3.0])
def test_a_level_within_the_tolerance_is_left(gain_db: float) -> None:
    clip = (SPEECH * 10 ** (gain_db / 20)).astype(np.float32)
    assert abs(level(clip) - TARGET_DB) < TOLERANCE_DB + 3
    assert prepared(clip).done == ()


@pytest.mark.parametrize(("before", "between", "after"), [(0.4, 0.0, 0.0), (0.0, 0.4, 0.0), (0.0, 0.0, 0.05)])
def test_short_silence_is_left(before: float, between: float, after: float) -> None:
    assert prepared(silence(before), SPEECH, silence(between), SPEECH, silence(after)).done == ()


# -- What is mended ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room_db", [-100.0, -60.0, -45.0])
def test_silence_at_the_edges_is_cut_and_every_sample_of_the_speech_stays(room_db: float) -> None:
    clip = np.concatenate([silence(2), SPEECH, silence(3)])
    clip += noise(len(clip), room_db)
    result = prepare_clip(clip, origin="references[0]")
    assert [done.partition(" of ")[2] for done in result.done] == ["silence were cut"]
    start = next(at for at in range(2 * RATE) if np.array_equal(clip[at : at + 1000], result.waveform[:1000]))
    np.testing.assert_array_equal(result.waveform, clip[start : start + len(result.waveform)])
    sound = measure(SPEECH).sounds
    assert start <= 2 * RATE + sound[0][0]
    assert start + len(result.waveform) >= 2 * RATE + sound[-1][1]
    assert len(result.waveform) < len(SPEECH) + 2.5 * KEPT_EDGE_SECONDS * RATE


def test_a_long_pause_is_shortened_without_a_click() -> None:
    room = noise(2 * len(SPEECH) + 4 * RATE, -60)
    clip = np.concatenate([SPEECH, silence(4), SPEECH]) + room
    result = prepare_clip(clip, origin="references[0]")
    ((start, end),) = [pause for pause in measure(result.waveform).pauses if pause[1] - pause[0] > 0.3 * RATE]
    assert end - start == pytest.approx(KEPT_PAUSE_SECONDS * RATE, abs=0.05 * RATE)
    steps = np.abs(np.diff(result.waveform[start + RATE // 20 : end - RATE // 20]))
    assert steps.max() < 6 * 10 ** (-60 / 20) * np.sqrt(2)  # as in the noise that the pause is


@pytest.mark.parametrize("gain", [0.003, 0.03, 0.25])
def test_quiet_speech_is_raised_and_never_over_the_peak(gain: float) -> None:
    result = prepared((SPEECH * gain).astype(np.float32))
    if gain == 0.25:
        assert result.done == ()
        return
    assert level(result.waveform) == pytest.approx(TARGET_DB, abs=0.6)
    assert np.abs(result.waveform).max() <= HIGHEST_PEAK
    gain_found = result.waveform[np.abs(SPEECH).argmax()] / (SPEECH[np.abs(SPEECH).argmax()] * gain)
    np.testing.assert_allclose(result.waveform, SPEECH * gain * gain_found, atol=1e-6)


def test_a_quiet_clip_with_one_loud_crack_is_raised_only_as_far_as_the_crack_allows() -> None:
    clip = (SPEECH * 0.05).astype(np.float32)
    clip[30_000] = 0.5
    result = prepare_clip(clip, origin="references[0]")
    assert np.abs(result.waveform).max() == pytest.approx(HIGHEST_PEAK, abs=1e-3)


def test_speech_that_is_far_too_loud_is_lowered() -> None:
    result = prepared(np.clip(SPEECH * 8, -1, 1))
    assert "its level was lowered by 16 dB" in result.done
    assert level(result.waveform) == pytest.approx(TARGET_DB, abs=0.6)


def test_a_constant_offset_is_removed_and_hides_no_silence() -> None:
    clip = np.concatenate([silence(2), SPEECH, silence(2)])
    result = prepare_clip(clip + np.float32(0.05), origin="references[0]")
    assert result.done == ("a constant offset was removed", "4.0 s of silence were cut")
    without = prepare_clip(clip, origin="references[0]").waveform
    assert np.abs(result.waveform - without).max() < 0.002  # the speech has a small mean of its own


def test_an_end_in_mid_sound_is_faded_out_and_nothing_before_it_changes() -> None:
    cut = SPEECH[:40_000]
    result = prepared(cut)
    assert result.done == ("its end was faded out",)
    np.testing.assert_array_equal(result.waveform[: 40_000 - 720], cut[: 40_000 - 720])
    assert abs(result.waveform[-1]) < 1e-6
    envelope = np.abs(result.waveform[-720:]) / np.maximum(np.abs(cut[-720:]), 1e-9)
    assert envelope.max() <= 1 + 1e-6


# -- For every clip ---------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(["speech", "tone", "noise", "silence"]), st.floats(0.01, 2), st.floats(1e-3, 1)),
        min_size=1,
        max_size=6,
    ),
    st.floats(-0.2, 0.2),
)
def test_whatever_comes_the_result_is_sound_and_fit_to_be_used(
    parts: list[tuple[str, float, float]], offset: float
) -> None:
    made = {
        "speech": lambda seconds, gain: SPEECH[: round(seconds * RATE)] * np.float32(gain),
        "tone": tone,
        "noise": lambda seconds, gain: noise(round(seconds * RATE), -20) * np.float32(gain),
        "silence": lambda seconds, _: silence(seconds),
    }
    clip = np.concatenate([made[kind](seconds, gain) for kind, seconds, gain in parts]) + np.float32(offset)
    before = clip.copy()
    try:
        result = prepare_clip(clip, origin="references[0]")
    except ReferenceAudioError:
        assert np.abs(clip - clip.mean()).max() < 1.1e-3
        return
    np.testing.assert_array_equal(clip, before)
    assert result.waveform.dtype == np.float32
    assert np.isfinite(result.waveform).all()
    assert 0 < len(result.waveform) <= len(clip)
    assert np.abs(result.waveform).max() <= max(np.abs(clip).max() + abs(clip.mean()), HIGHEST_PEAK) + 1e-6
    assert (result.waveform is clip) == (result.done == ())
    again = prepare_clip(clip.copy(), origin="references[0]")
    np.testing.assert_array_equal(again.waveform, result.waveform)
    assert clip_warning("references[0]", result, None) == clip_warning("references[0]", again, None)


@pytest.mark.parametrize("offset", [0.5, -0.2])
def test_silence_with_an_offset_is_silence(offset: float) -> None:
    with pytest.raises(ReferenceAudioError, match=r"^references\[0\] is silent\.$") as failure:
        prepared(silence(3) + np.float32(offset))
    assert failure.value.field == "references[0]"


def test_a_clip_that_is_taken_as_it_is_keeps_every_sample() -> None:
    clip = np.concatenate([silence(3), SPEECH * np.float32(0.01) + np.float32(0.05)])
    result = unprepared_clip(clip)
    assert result.waveform is clip
    assert result.done == ()


# -- The measures -----------------------------------------------------------------------------------------------------


def test_the_active_level_of_a_steady_sound_is_its_rms() -> None:
    assert level(tone(2, 0.5)) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.05)


@pytest.mark.parametrize("seconds", [1, 5, 30])
def test_pauses_do_not_lower_the_active_level(seconds: float) -> None:
    with_pause = np.concatenate([SPEECH, silence(seconds), SPEECH])
    assert level(with_pause) == pytest.approx(level(SPEECH), abs=0.5)
    assert active_level(np.array([0.01])) == pytest.approx(-20)


@pytest.mark.parametrize("noise_db", [-60.0, -40.0, -30.0])
def test_the_noise_is_measured_between_the_words(noise_db: float) -> None:
    found = measure(SPEECH + noise(len(SPEECH), noise_db))
    assert found.noise_db == pytest.approx(noise_db, abs=1)


# -- What is said -----------------------------------------------------------------------------------------------------


def faults(clip: Clip, transcript: str | None = None) -> tuple[str, ...]:
    return clip_faults(prepare_clip(clip, origin="references[0]"), transcript)


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (SPEECH[:40_000], "it lasts 1.7 s, and 3 to 30 s of speech are recommended"),
        (np.tile(SPEECH, 11), "it lasts 33.7 s, and 3 to 30 s of speech are recommended"),
        (np.clip(SPEECH * 3, -1, 1), "2.0% of its samples are clipped"),
        (SPEECH * np.float32(0.01), "its speech is very quiet at -60 dBFS"),
        (SPEECH + noise(len(SPEECH), -35), "its noise is only 15 dB below its speech"),
        (np.concatenate([SPEECH, silence(5)]), "67% of it is silence"),
        (np.concatenate([SPEECH, silence(1.2)] * 4 + [SPEECH]), "it has 4 long pauses"),
    ],
)
def test_what_is_wrong_with_a_clip_is_said(clip: Clip, said: str) -> None:
    assert said in faults(clip)


def test_a_good_clip_with_its_own_words_has_no_faults() -> None:
    assert faults(SPEECH, WORDS) == ()
    assert clip_warning("references[0]", prepared(SPEECH), WORDS) is None


@pytest.mark.parametrize(
    ("transcript", "said"),
    [
        ("one two three four five " * 10, "its transcript has more words than 3.1 s can hold"),
        ("Yes.", None),
        ("", None),
        (None, None),
    ],
)
def test_a_transcript_that_cannot_be_the_clips_is_named(transcript: str | None, said: str | None) -> None:
    assert faults(SPEECH, transcript) == (() if said is None else (said,))


def test_a_transcript_of_too_few_words_is_named() -> None:
    assert "its transcript has too few words for 12.3 s" in faults(np.tile(SPEECH, 4), "Yes.")


def test_all_of_a_clip_stands_in_one_sentence() -> None:
    clip = prepared(silence(3), SPEECH[:40_000] * np.float32(0.02))
    assert clip_warning("references[1]", clip, None) == (
        "references[1]: 2.8 s of silence were cut; its level was raised by 30 dB; its end was faded out; "
        "it lasts 1.9 s, and 3 to 30 s of speech are recommended; its speech is very quiet at -53 dBFS; "
        "64% of it is silence."
    )


def test_a_compressed_copy_of_a_good_clip_is_left_alone_too() -> None:
    for name in ("mp3", "opus", "flac"):
        samples: Any = soundfile.read(io.BytesIO(encode_audio(SPEECH, name)), dtype="float32")[0]
        assert prepare_clip(samples.astype(np.float32), origin="references[0]").done == ()
