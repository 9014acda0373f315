"""The frequency bands and the time steps in which speech is described."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BANDS = 36
LOWEST, HIGHEST = 60.0, 7600.0
"""Centres of the first and the last band in Hz; those between are evenly spaced on the mel scale."""
STEP = 0.01
"""Seconds between two analysis frames."""


def mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Hertz to mel (O'Shaughnessy's formula)."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def centres() -> NDArray[np.float64]:
    """[BANDS], in Hz."""
    return 700 * np.expm1(np.linspace(mel(LOWEST), mel(HIGHEST), BANDS) / 1127)


def band_weights(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """[BANDS, len(hertz)]: triangles on the mel scale that add up to 1; the first and the last go on level."""
    position = np.clip(np.interp(mel(hertz), mel(centres()), np.arange(BANDS)), 0, BANDS - 1)
    return np.clip(1 - abs(position - np.arange(BANDS)[:, None]), 0, None)
