"""How high a voice is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 24_000
LOWEST, HIGHEST = 60, 400
_FRAME = RATE * 40 // 1000
_VOICED = 0.5
"""A frame with a weaker period than this is no vowel."""


def median_pitch(audio: NDArray[Any]) -> float:
    """Median fundamental frequency in Hz of the voiced frames of speech, [N] at 24 kHz, by autocorrelation.

    Raises AssertionError when nothing in it is voiced.
    """
    found = [pitch for pitch in map(_pitch, _loud_frames(audio)) if pitch is not None]
    assert found, "nothing in the audio has a pitch"
    return float(np.median(found))


def _loud_frames(audio: NDArray[Any]) -> NDArray[Any]:
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt((frames**2).mean(axis=1))
    return frames[level > 0.3 * level.max(initial=0)]


def _pitch(frame: NDArray[Any]) -> float | None:
    frame = frame - frame.mean()
    spectrum = np.fft.rfft(frame, 2 * _FRAME)
    likeness = np.fft.irfft(np.abs(spectrum) ** 2)[:_FRAME] / (_FRAME - np.arange(_FRAME))
    likeness /= likeness[0] or 1
    lags = np.arange(RATE // HIGHEST, RATE // LOWEST)
    best = likeness[lags].max()
    if best < _VOICED:
        return None
    peaks = lags[(likeness[lags] >= likeness[lags - 1]) & (likeness[lags] >= likeness[lags + 1])]
    strong = peaks[likeness[peaks] > 0.9 * best]  # multiples of the period are as strong: the shortest is meant
    return float(RATE / strong[0]) if len(strong) else None
