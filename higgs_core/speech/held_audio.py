"""Audio of a piece on its way out of a stream, held back while it may still turn out not to be wanted.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.silence import SilenceMeter
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.playback import Playback

_SECONDS_AHEAD = 3.0
"""A listener who has less than this to play gets what is held: a chunk is up to 64 frames, 2.6 s, and the next must be
there in time."""

_NOTHING = np.zeros(0, np.float32)


class HeldAudio:
    """Takes a piece's audio as it is spoken and gives out what may be sent.

    until_checked: hold all of it until the piece is over and known to be good, while the listener has enough to play;
    and in any case until a sound is in it. Once any has been sent, the piece cannot be taken back and the rest follows
    as it comes.
    trims: hold silence that is longer than natural until a sound follows, since at the end of a piece it is cut.
    """

    def __init__(self, playback: Playback, *, until_checked: bool, trims: bool) -> None:
        self._playback = playback
        self._until_checked = until_checked
        self._trims = trims
        self._meter = SilenceMeter()
        self._held: NDArray[np.float32] = _NOTHING
        self.sent = 0
        """Samples that were given out."""

    def add(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """audio: float32 [n], what was spoken next. Returns float32 [m], what may be sent now."""
        self._held = np.concatenate([self._held, audio])
        self._meter.add(audio)
        if self._until_checked and self.sent == 0:
            is_silent = self._meter.sounding_frames == 0
            if is_silent or self._playback.seconds_ahead > _SECONDS_AHEAD:
                return _NOTHING
        sendable = self._meter.kept_samples - self.sent if self._trims else len(self._held)
        now, self._held = self._held[:sendable], self._held[sendable:]
        return self._send(now)

    def rest_of(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is still to be sent of the piece, now that it is known what is kept of it: float32 [n], all of it."""
        return self._send(piece[self.sent :])

    def _send(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        self.sent += len(audio)
        if len(audio):
            self._playback.send(len(audio) / SAMPLING_RATE)
        return audio
