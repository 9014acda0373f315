"""The source voice as a channel vocoder sees it: the amplitudes of pulses and of noise in bands.

The spectral envelope is WORLD's (Morise et al., 2016; DIO, StoneMask and CheapTrick).
"""

from __future__ import annotations

import numpy as np
import pyworld
from numpy.typing import NDArray

from scripts.demo_voice.bands import BANDS, STEP, band_weights, centres
from scripts.demo_voice.source import Utterance

VOWELS = ("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
SONORANTS = frozenset((*VOWELS, "m", "n", "ng", "l", "r", "w", "y"))
VOICED_OBSTRUENTS = frozenset(("z", "v", "zh", "dh", "b", "d", "g", "jh"))


def amplitudes(utterance: Utterance) -> NDArray[np.float32]:
    """[steps, 2, BANDS]: the square roots of the mean power of pulses and of noise in each band."""
    audio, rate = utterance.audio.astype(np.float64), utterance.rate
    pitch, times = pyworld.dio(audio, rate, f0_floor=60, f0_ceil=300, frame_period=STEP * 1000)
    pitch = pyworld.stonemask(audio, pitch, times, rate)
    power = pyworld.cheaptrick(audio, pitch, times, rate)
    weights = band_weights(np.linspace(0, rate / 2, power.shape[1]))
    bands = power @ (weights / weights.sum(1, keepdims=True)).T
    noise = _noise_shares(utterance, len(bands))
    return np.sqrt(np.stack((bands * (1 - noise), bands * noise), 1)).astype(np.float32)


def _noise_shares(utterance: Utterance, steps: int) -> NDArray[np.float64]:
    """[steps, BANDS], the share of noise in the power.

    It follows from the phone: a measured one (WORLD's D4C) makes vowels hoarse where it errs, and errs often at phones
    of 40 ms.
    """
    kilohertz = centres() / 1000
    shares = np.ones((steps, BANDS))
    start = 0.0
    for segment in utterance.segments:
        first, last = round(start / STEP), round(segment.end / STEP) + 1
        if segment.phone in SONORANTS:
            shares[first:last] = np.clip((kilohertz - 5) / 2, 0.05, 0.7) ** 2
        elif segment.phone in VOICED_OBSTRUENTS:
            shares[first:last] = np.clip((kilohertz - 2) / 2, 0.05, 1.0) ** 2
        start = segment.end
    return shares
