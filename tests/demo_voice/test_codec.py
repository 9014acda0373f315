"""The demo voice's codec: what the network computes is the vocoder that it was set to be."""

import numpy as np
import pytest
import torch

from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.codec.pieces import CONTEXT_FRAMES
from higgs_core.rates import FRAME_SAMPLES
from scripts.demo_voice import codec
from scripts.demo_voice.bands import BANDS
from scripts.demo_voice.codes import LEFT, PITCH, RIGHT, UNIT
from scripts.demo_voice.inventory import STEPS
from scripts.demo_voice.tables import NOISE_DIMENSIONS, PULSE_DIMENSIONS, Tables
from scripts.demo_voice.vocoder import AFTER, BEFORE, PULSES, SPAN, noise_waves, pulse_waves

FRAMES = 40
CODES = 20


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)

    def bases(dimensions):
        return rng.normal(size=(dimensions, STEPS, BANDS)).astype("f4") * 0.01

    vectors = {
        book: rng.normal(size=(CODES, PULSE_DIMENSIONS + NOISE_DIMENSIONS)).astype("f4") for book in (UNIT, LEFT, RIGHT)
    }
    return Tables(vectors, bases(PULSE_DIMENSIONS), bases(NOISE_DIMENSIONS))


@pytest.fixture(scope="module")
def model(tables):
    return codec.build(tables)


@pytest.fixture
def codes():
    """[FRAMES, Q], with every pitch."""
    codes = np.random.default_rng(1).integers(0, CODES, (FRAMES, 8))
    codes[:, PITCH] = np.arange(FRAMES) % len(PULSES)
    return codes


def decoded(model, codes):
    with torch.inference_mode():
        return model.decode(torch.from_numpy(codes).T[None]).audio_values[0, 0].numpy()


def vocoded(tables, codes):
    """The sum of the waveforms, one frame after the other."""
    amplitudes = tables.amplitudes(codes)
    audio = np.zeros(len(codes) * FRAME_SAMPLES + BEFORE + AFTER)
    pulses, noise = [pulse_waves(count) for count in PULSES], noise_waves()
    for at, frame in enumerate(amplitudes):
        waves = np.einsum("sb,sbn->n", frame[:, 0], pulses[codes[at, PITCH]])
        waves += np.einsum("sb,sbn->n", frame[:, 1], noise)
        audio[at * FRAME_SAMPLES : at * FRAME_SAMPLES + SPAN] += waves
    return codec.GAIN * audio[BEFORE:-AFTER]


def test_the_decoder_computes_the_vocoder(model, tables, codes):
    wanted = vocoded(tables, codes)
    error = decoded(model, codes) - wanted
    # The largest amplitudes are compressed by a few per cent; a wave at a wrong place would be an error of 100.
    assert np.sqrt((error**2).mean()) < 0.03 * np.sqrt((wanted**2).mean())


def test_pitch_alone_chooses_the_pulses(model, tables, codes):
    """One frame's pitch changes that frame and no other, and noise stays."""
    changed = codes.copy()
    changed[20, PITCH] = (codes[20, PITCH] + 1) % len(PULSES)
    difference = decoded(model, changed) - decoded(model, codes)
    start = 20 * FRAME_SAMPLES
    assert abs(difference[start : start + FRAME_SAMPLES]).max() > 0.01
    assert abs(difference[: start - BEFORE]).max() < 1e-4
    assert abs(difference[start + FRAME_SAMPLES + AFTER :]).max() < 1e-4


def test_a_code_that_nothing_uses_is_heard_as_none(model, codes):
    unused, first = codes.copy(), codes.copy()
    unused[5, LEFT], first[5, LEFT] = 1000, 0
    unused[6, 4], unused[6, PITCH], first[6, PITCH] = 77, 1000, 1
    assert np.array_equal(decoded(model, unused), decoded(model, first))


def test_chunks_with_their_context_equal_the_whole(model, codes):
    audio = AudioCodec(model)
    all_codes = torch.from_numpy(codes).T[None]
    whole = audio.decode(all_codes)[0]
    chunk = audio.decode(all_codes[..., 15 - CONTEXT_FRAMES : 20 + CONTEXT_FRAMES])[0]
    start = CONTEXT_FRAMES * FRAME_SAMPLES
    wanted = whole[15 * FRAME_SAMPLES : 20 * FRAME_SAMPLES]
    torch.testing.assert_close(chunk[start : start + 5 * FRAME_SAMPLES], wanted, rtol=0, atol=1e-5)


def test_a_bank_of_pulses_is_the_same_in_every_frame():
    """A constant amplitude gives a wave that repeats every frame: steps and frames go over into one another."""
    for count in PULSES:
        wave = pulse_waves(count).sum(0)[BANDS // 2]
        audio = np.zeros(6 * FRAME_SAMPLES + BEFORE + AFTER)
        for at in range(6):
            audio[at * FRAME_SAMPLES : at * FRAME_SAMPLES + SPAN] += wave
        middle = audio[BEFORE + 2 * FRAME_SAMPLES :][: 2 * FRAME_SAMPLES].reshape(2, -1)
        np.testing.assert_allclose(middle[0], middle[1], atol=1e-9)
        assert abs(middle).max() > 0
