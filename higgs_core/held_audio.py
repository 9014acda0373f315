"""Audio of a piece on its way out of a stream, held back while it may still turn out not to be wanted.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.playback import Playback
from higgs_core.silence import SilenceMeter

_SAMPLES_PER_SECOND = 24_000
_SECONDS_AHEAD = 3.0
"""A listener who has less than this to play gets what is held: a chunk is up to 64 frames, 2.6 s, and the next must be
there in time."""

_NOTHING = np.zeros(0, np.float32)


class HeldAudio:
    """Takes a piece's audio as it is spoken and gives out what may be sent.

    until_checked: hold all of it until the piece is over and known to be good, while the listener has enough to play.
    Once any has been sent, the piece cannot be taken back and the rest follows as it comes.
    trims: hold silence that is longer than natural until a sound follows, since at the end of a piece it is cut.
    """

    def __init__(self, playback: Playback, *, until_checked: bool, trims: bool) -> None:
        self._playback = playback
        self._until_checked = until_checked
        self._meter = SilenceMeter() if trims else None
        self._held: NDArray[np.float32] = _NOTHING
        self.sent = 0
        """Samples that were given out."""

    def add(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """audio: float32 [n], what was spoken next. Returns float32 [m], what may be sent now."""
        self._held = np.concatenate([self._held, audio])
        sendable = len(self._held)
        if self._meter is not None:
            self._meter.add(audio)
            sendable = self._meter.kept_samples - self.sent
        if self._until_checked and self.sent == 0 and self._playback.seconds_ahead > _SECONDS_AHEAD:
            return _NOTHING
        now, self._held = self._held[:sendable], self._held[sendable:]
        self.sent += len(now)
        if len(now):
            self._playback.send(len(now) / _SAMPLES_PER_SECOND)
        return now
