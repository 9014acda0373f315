"""The demo voice's codebooks: which of them say something, what the pitch codes mean, and the delay pattern.

T frames, Q = 8 codebooks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CODEBOOKS = 8
UNIT, LEFT, PITCH, RIGHT = 0, 1, 2, 7
"""Codebooks; see `inventory` for what they say."""
SPOKEN_BOOKS = (UNIT, LEFT, PITCH, RIGHT)
"""Those that say something; the others hold 0."""
CODES = 1026
"""Of a codebook: 1024 of the codec, the stream's BOS and its EOS."""
BOS, EOS = 1024, 1025
IGNORED = -100
"""Stands for a target that is not learned."""

LOW_VOICE, HIGH_VOICE = 0, 1
LEVELS = 3
"""Pitch levels of a voice: a pitch code is LEVELS x voice + level."""
LOW, BASE, HIGH = 0, 1, 2
"""Pitch levels."""


def delayed(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes [T, Q] as columns [T + 9, Q]: a BOS frame before, an EOS frame after, codebook k shifted by k."""
    framed = np.concatenate((np.full((1, CODEBOOKS), BOS), codes, np.full((1, CODEBOOKS), EOS)))
    columns = np.full((len(framed) + CODEBOOKS - 1, CODEBOOKS), BOS)
    for book in range(CODEBOOKS):
        columns[book : book + len(framed), book] = framed[:, book]
        columns[book + len(framed) :, book] = EOS
    return columns
