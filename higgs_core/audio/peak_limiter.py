"""A gain that falls before a peak that would be too high and recovers after it, while the audio still arrives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.loudness import CEILING_DB
from higgs_core.audio.true_peak import CONTEXT, FRAME, frame_peaks

_AHEAD = 10  # frames over which the gain falls, 50 ms
_RECOVERY_DB = 0.03  # a frame: 6 dB a second, slow enough not to be heard as a change
_WITHIN = np.arange(FRAME) / FRAME
_QUIET = 1e-9  # nothing is divided by less
_MARGIN_DB = 1e-6  # what rounding to float32 may add to a sample

_NONE = np.zeros(0, np.float32)


class PeakLimiter:
    """Amplifies float32 [n] by `gain_db` dB. Where a true peak would pass CEILING_DB the gain is lower.

    The gain is a straight line within a frame of 5 ms. It begins to fall 50 ms before a peak, stands at what the peak
    allows for all of the peak's frame, and rises by 6 dB a second. Audio without such a peak is only multiplied.
    What comes out does not depend on how the input is divided; it lags behind by 62 ms at the most.

    most_lowered_db: the largest fall so far.
    """

    def __init__(self, gain_db: float) -> None:
        self._gain_db = gain_db
        self._input = np.zeros(CONTEXT, np.float32)  # begins CONTEXT samples before the first frame without a peak
        self._measured = _NONE  # the samples of the frames that have a peak and have not left yet
        self._allowed = np.full(1, gain_db)  # in dB, of the frame before those and of each of those
        self._gain_now: float | None = None  # in dB, where the next frame begins
        self.most_lowered_db = 0.0

    def write(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that are ready by now, float32 [m], possibly none."""
        self._input = np.concatenate([self._input, audio])
        self._measure((len(self._input) - 2 * CONTEXT) // FRAME)
        return self._take(len(self._allowed) - 2 - _AHEAD)

    def finish(self) -> NDArray[np.float32]:
        """The samples that are left."""
        left = len(self._input) - CONTEXT
        frames = -(-left // FRAME)
        samples = len(self._measured) + left
        self._input = np.concatenate([self._input, np.zeros(frames * FRAME - left + CONTEXT, np.float32)])
        self._measure(frames)
        frames = len(self._allowed) - 1
        self._allowed = np.concatenate([self._allowed, np.full(1 + _AHEAD, self._gain_db)])
        return self._take(frames)[:samples]

    def _measure(self, frames: int) -> None:
        """Find out what the next frames of the input allow."""
        if frames <= 0:
            return
        peaks = frame_peaks(self._input[: frames * FRAME + 2 * CONTEXT])
        ceiling = CEILING_DB - _MARGIN_DB
        allowed = np.fmin(self._gain_db, ceiling - 20 * np.log10(np.maximum(peaks, _QUIET)))
        self._allowed = np.concatenate([self._allowed, allowed])
        self._measured = np.concatenate([self._measured, self._input[CONTEXT : CONTEXT + frames * FRAME]])
        self._input = self._input[frames * FRAME :].copy()

    def _take(self, frames: int) -> NDArray[np.float32]:
        if frames <= 0:
            return _NONE
        gains = 10 ** (self._gains(frames) / 20)
        samples = self._measured[: frames * FRAME].astype(np.float64).reshape(frames, FRAME)
        limited = samples * (gains[:-1, None] + np.diff(gains)[:, None] * _WITHIN)
        self._measured = self._measured[frames * FRAME :].copy()
        self._allowed = self._allowed[frames:].copy()
        return limited.astype(np.float32).reshape(-1)

    def _gains(self, frames: int) -> NDArray[np.float64]:
        """The gain in dB where each of the next frames begins, and where the last one ends: [frames + 1]."""
        both_sides = np.minimum(self._allowed[:-1], self._allowed[1:])
        least = both_sides[: frames + 1]
        for ahead in range(1, _AHEAD + 1):
            fallen = (both_sides[ahead : ahead + frames + 1] - self._gain_db) * (1 - ahead / (_AHEAD + 1))
            least = np.minimum(least, self._gain_db + fallen)
        gains = np.empty(frames + 1)
        now = float(least[0]) if self._gain_now is None else self._gain_now
        for index, most in enumerate(least.tolist()):
            now = min(most, now + (_RECOVERY_DB if index else 0.0), self._gain_db)
            gains[index] = now
        self._gain_now = now
        self.most_lowered_db = max(self.most_lowered_db, self._gain_db - float(gains.min()))
        return gains
