"""Decides when the audio of a piece is sent.

A stream holds it back while the piece may still be generated again and the client has enough to play.

Imports no torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.silence import SilenceMeter
from higgs_core.rates import SAMPLING_RATE

Clock = Callable[[], float]

_LEAST_BUFFERED_SECONDS = 3.0
"""A client that has less than this to play gets what is held: a chunk is up to 64 frames, 2.6 s, and the next must
arrive in time."""

_NO_AUDIO = np.zeros(0, np.float32)


class ClientBuffer:
    """How much audio a client still has to play, if it started with the first that was sent and never pauses.

    speed: seconds of the audio that are played in one second.  clock: seconds, monotonic.
    live: False for a client that plays nothing before everything has arrived.
    """

    def __init__(self, speed: float = 1.0, clock: Clock = time.monotonic, *, live: bool = True) -> None:
        self._speed = speed
        self._clock = clock
        self._live = live
        self._began: float | None = None
        self._sent = 0.0

    def add(self, seconds: float) -> None:
        """Note audio that is sent now."""
        self.add_pause(seconds / self._speed)

    def add_pause(self, seconds: float) -> None:
        """Note silence that is sent now, which lasts as long at any speed."""
        if self._began is None:
            self._began = self._clock()
        self._sent += seconds

    @property
    def seconds(self) -> float:
        """Until everything that was sent has been played; 0 before anything was sent. Infinite if not live."""
        if not self._live:
            return math.inf
        return 0.0 if self._began is None else self._began + self._sent - self._clock()


class SendBuffer:
    """Takes the audio of one generation as it comes and gives out what may be sent.

    until_checked: send nothing before there is a sound in it, and then hold it until the generation has been checked,
    unless the client is about to run out of audio. Once some was sent, the rest is sent as it comes.
    trim: hold silence that is longer than natural until a sound follows, since at the end of a piece it is cut.
    """

    def __init__(self, client: ClientBuffer, *, until_checked: bool, trim: bool) -> None:
        self._client = client
        self._until_checked = until_checked
        self._trim = trim
        self._meter = SilenceMeter()
        self._held: NDArray[np.float32] = _NO_AUDIO
        self._sent = 0  # samples

    @property
    def has_sent(self) -> bool:
        return self._sent > 0

    def add(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """audio: float32 [n], what was generated next. Returns float32 [m], what may be sent now."""
        self._held = np.concatenate([self._held, audio])
        self._meter.add(audio)
        if self._until_checked and not self.has_sent:
            is_silent = self._meter.sounding_frames == 0
            if is_silent or self._client.seconds > _LEAST_BUFFERED_SECONDS:
                return _NO_AUDIO
        sendable = self._meter.kept_samples - self._sent if self._trim else len(self._held)
        ready, self._held = self._held[:sendable], self._held[sendable:]
        return self._send(ready)

    def rest_of(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is still to be sent of the audio that is kept of the piece, float32 [n]."""
        return self._send(piece[self._sent :])

    def _send(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        self._sent += len(audio)
        if len(audio):
            self._client.add(len(audio) / SAMPLING_RATE)
        return audio
