"""The peak of a signal between its samples, which a player's converter meets. Loads SciPy when it is first called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAME = 120
"""Samples for which one peak is given, 5 ms at 24 kHz."""

CONTEXT = 16
"""Samples on either side that a frame's peak depends on; the interpolating filter reaches over ten."""

_OVERSAMPLING = 4  # ITU-R BS.1770-4, annex 2
_FRAMES_AT_ONCE = 4000  # 20 s


def frame_peaks(audio: NDArray[Any]) -> NDArray[np.float64]:
    """The true peak, float64 [n], of every frame of audio [CONTEXT + n * FRAME + CONTEXT], not below its sample peak.

    It is the same for a frame whatever stands beyond its context. NaN where a sample is not a number.
    """
    from scipy.signal import resample_poly

    frames = (len(audio) - 2 * CONTEXT) // FRAME
    peaks = np.zeros(frames)
    for first in range(0, frames, _FRAMES_AT_ONCE):
        count = min(_FRAMES_AT_ONCE, frames - first)
        part = audio[first * FRAME : (first + count) * FRAME + 2 * CONTEXT].astype(np.float64)
        between = resample_poly(part, _OVERSAMPLING, 1)[_OVERSAMPLING * CONTEXT :][: count * FRAME * _OVERSAMPLING]
        samples = part[CONTEXT:][: count * FRAME].reshape(count, FRAME)
        peaks[first : first + count] = np.maximum(
            np.abs(between).reshape(count, -1).max(axis=1), np.abs(samples).max(axis=1)
        )
    return peaks


def true_peak(audio: NDArray[Any]) -> float:
    """The true peak of audio [N], as an amplitude; 0 for none. NaN where a sample is not a number."""
    frames = -(-len(audio) // FRAME)
    highest = 0.0
    for first in range(0, frames, _FRAMES_AT_ONCE):
        start, end = first * FRAME, min(frames, first + _FRAMES_AT_ONCE) * FRAME
        part = np.zeros(end - start + 2 * CONTEXT, np.float32)
        near = audio[max(0, start - CONTEXT) : end + CONTEXT]
        offset = max(0, CONTEXT - start)
        part[offset : offset + len(near)] = near
        highest = float(np.maximum(highest, frame_peaks(part).max()))
    return highest
