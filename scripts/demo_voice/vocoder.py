"""The waveforms that amplitudes are multiplied with: pulses locked to the frame, and noise that repeats every frame.

A channel vocoder whose output depends on a frame's amplitudes and pitch alone; its noise is drawn once. A frame of 960
samples holds a whole number of pulses, so the pitch is a multiple of 25 Hz and every frame can begin the same way.
Between the middles of two analysis steps an amplitude goes over linearly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import FRAME_SAMPLES, SAMPLING_RATE
from scripts.demo_voice.bands import BANDS, band_weights
from scripts.demo_voice.inventory import STEPS

PULSES = (4, 5, 6, 8, 9, 10)
"""Pulses a frame for each code of the pitch codebook: 100, 125 and 150 Hz, and 200, 225 and 250 Hz."""
_HIGH_VOICE = 8
_WARP = 1.15
"""How much higher the formants of the high voice lie."""
BEFORE, AFTER = 576, 384
"""Samples before and after a frame that its waveforms reach into."""
SPAN = BEFORE + FRAME_SAMPLES + AFTER
_STEP_SAMPLES = FRAME_SAMPLES // STEPS
_RESPONSE = 480
"""Samples."""
_HIGHEST = 11_500.0
"""Hz."""
_SEED = 3


def pulse_waves(pulses: int) -> NDArray[np.float64]:
    """[STEPS, BANDS, SPAN]: what amplitude 1 of a step and a band sounds like at this pitch."""
    responses = _responses(_WARP if pulses >= _HIGH_VOICE else 1.0)
    waves = np.zeros((STEPS, BANDS, SPAN + 2 * _RESPONSE))
    for number in range(-pulses, 2 * pulses):
        time = (number + 0.5) * FRAME_SAMPLES / pulses
        for step in range(STEPS):
            share = 1 - abs(time - (step + 0.5) * _STEP_SAMPLES) / _STEP_SAMPLES
            if share > 0:
                start = round(time) + BEFORE + _RESPONSE // 2
                waves[step, :, start : start + _RESPONSE] += share * responses * np.sqrt(FRAME_SAMPLES / pulses)
    return waves[:, :, _RESPONSE : _RESPONSE + SPAN]


def noise_waves() -> NDArray[np.float64]:
    """[STEPS, BANDS, SPAN]."""
    weights = band_weights(np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLING_RATE))
    phases = np.exp(2j * np.pi * np.random.RandomState(_SEED).rand(weights.shape[1]))
    noise = np.fft.irfft(weights * phases, axis=1) * np.sqrt(FRAME_SAMPLES)
    time = np.arange(SPAN) - BEFORE
    middles = (np.arange(STEPS)[:, None] + 0.5) * _STEP_SAMPLES
    shares = np.clip(1 - abs(time + 0.5 - middles) / _STEP_SAMPLES, 0, None)
    return shares[:, None] * noise[:, time % FRAME_SAMPLES]


def _responses(warp: float) -> NDArray[np.float64]:
    """[BANDS, _RESPONSE]: impulse responses of the bands, with zero phase, under a Hann window."""
    size = 1024
    hertz = np.fft.rfftfreq(size, 1 / SAMPLING_RATE)
    weights = band_weights(hertz / warp) * (hertz < _HIGHEST)
    responses = np.roll(np.fft.irfft(weights, axis=1), size // 2, axis=1)
    middle = slice(size // 2 - _RESPONSE // 2, size // 2 + _RESPONSE // 2)
    return responses[:, middle] * np.hanning(_RESPONSE)
