"""What can go wrong with the speech of a piece, seen in its codes, the energy of its audio and its length.

A fault is a reason to generate the piece again, and to keep it out of the context of the next. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.silence import LONG_FRAMES
from higgs_core.text.speech_length import SpeechLength

_LONGEST_PERIOD = 125  # frames, 5 s: a phrase said over and over
_LEAST_LOOP = 75  # frames, 3 s
_PERIODS = 3  # that a loop has at the least
_EQUAL_CODES = 0.5  # share of a frame's codes that are those of one period before
_EQUAL_FRAMES = 0.9  # share of the frames of a loop for which that holds


class Fault(IntEnum):
    """Ways in which a piece goes wrong, the least harmful first."""

    SILENT_END = 1
    TOO_LONG = 2
    CUT_OFF = 3
    TOO_SHORT = 4
    LOOP = 5
    NO_AUDIO = 6

    @property
    def description(self) -> str:
        """What the piece was, for a sentence about it."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Fault.SILENT_END: "followed by a long silence",
    Fault.TOO_LONG: "far too long for the text",
    Fault.CUT_OFF: "cut off",
    Fault.TOO_SHORT: "far too short for the text",
    Fault.LOOP: "caught in a loop",
    Fault.NO_AUDIO: "left without audio",
}


def faults_of(
    codes: NDArray[Any],
    *,
    sounding_frames: int,
    silent_frames: int,
    cut_off: bool,
    length: SpeechLength | None,
    ras: bool,
) -> tuple[Fault, ...]:
    """Everything that is wrong with a piece, the worst first.

    codes: integers [Q, T] of the piece.  sounding_frames: frames up to its last sound, of which silent_frames follow.
    cut_off: the decode steps ran out.  length: what its text allows, None where that is not known.
    ras: repetition-aware sampling was on; without it a sound may be held for as long as the model likes.
    """
    if sounding_frames == 0:
        return (Fault.NO_AUDIO,)
    found = set()
    if ras and has_loop(codes[:, :sounding_frames]):
        found.add(Fault.LOOP)
    if silent_frames >= LONG_FRAMES:
        found.add(Fault.SILENT_END)  # steps that ran out in silence cut nothing off
    elif cut_off:
        found.add(Fault.CUT_OFF)
    if length is not None and sounding_frames < length.least and Fault.CUT_OFF not in found:
        found.add(Fault.TOO_SHORT)
    if length is not None and sounding_frames > length.most:
        found.add(Fault.TOO_LONG)
    return tuple(sorted(found, reverse=True))


def has_loop(codes: NDArray[Any]) -> bool:
    """Whether some stretch of the codes, integers [Q, T], repeats itself.

    That is: over at least 3 s and three periods of up to 5 s each, nine of ten frames have half of their codes from one
    period before. RAS looks back 0.3 s, so it prevents no such loop; speech has far fewer equal codes. A codebook that
    holds one code nearly always does not count, as some checkpoints leave codebooks unused, unless all of them do.
    """
    frames = codes.shape[1]
    if not frames:
        return False
    changing = np.array([np.bincount(row).max() < _EQUAL_FRAMES * frames for row in codes])
    if changing.any():
        codes = codes[changing]
    for period in range(1, min(_LONGEST_PERIOD, frames - 1) + 1):
        span = max(_LEAST_LOOP, _PERIODS * period) - period
        if span > frames - period:
            continue
        equal = (codes[:, period:] == codes[:, :-period]).mean(axis=0) >= _EQUAL_CODES  # [T - period]
        total = np.concatenate([[0], np.cumsum(equal)])
        if (total[span:] - total[:-span]).max() >= _EQUAL_FRAMES * span:
            return True
    return False


def harm_of(faults: Sequence[Fault]) -> tuple[int, int]:
    """Sort key of a generation, the least harmful first: its worst fault, then how many faults it has."""
    return max(faults, default=0), len(faults)
