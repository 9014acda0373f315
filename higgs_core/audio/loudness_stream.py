"""Speech at a loudness that the caller names, while it still arrives: the gain is set by its first seconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.loudness import gain_to
from higgs_core.audio.peak_limiter import PeakLimiter
from higgs_core.rates import SAMPLING_RATE

HELD_SECONDS = 3.0
"""How much is held back and measured before the first sample leaves."""

_HELD = round(HELD_SECONDS * SAMPLING_RATE)
_NONE = np.zeros(0, np.float32)


class LoudnessStream:
    """float32 [n] at 24 kHz in, the same at `target` LUFS out.

    HELD_SECONDS, or all if there is less, are measured; their gain stays for the rest, and a PeakLimiter lowers later
    peaks that it would carry too far. Held seconds in which nothing is heard leave as they are, and the next are held.
    What comes out does not depend on how the input is divided.

    missing_db: by how much the gain is smaller than the target needs, because of peaks; None before there is a gain.
    lowered_db: by how much it was lowered for a later peak.
    """

    def __init__(self, target: float) -> None:
        self._target = target
        self._held = _NONE
        self._limiter: PeakLimiter | None = None
        self.missing_db: float | None = None

    @property
    def lowered_db(self) -> float:
        return 0.0 if self._limiter is None else self._limiter.most_lowered_db

    def write(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that are ready by now, float32 [m], possibly none."""
        ready = []
        while self._limiter is None and len(self._held) + len(audio) >= _HELD:
            needed = _HELD - len(self._held)
            self._held = np.concatenate([self._held, audio[:needed]])
            audio = audio[needed:]
            ready.append(self._release())
        if self._limiter is None:
            self._held = np.concatenate([self._held, audio])
        else:
            ready.append(self._limiter.write(audio))
        return np.concatenate([_NONE, *ready])

    def finish(self) -> NDArray[np.float32]:
        """The samples that are left."""
        ready = self._release() if self._limiter is None else _NONE
        return ready if self._limiter is None else np.concatenate([ready, self._limiter.finish()])

    def _release(self) -> NDArray[np.float32]:
        """What of the held samples is ready once they have been measured."""
        held, self._held = self._held, _NONE
        found = gain_to(held, self._target)
        if found is None:
            return held
        gain, self.missing_db = found
        self._limiter = PeakLimiter(gain)
        return self._limiter.write(held)
