"""How far a stream is ahead of somebody who listens to it as it comes. Imports no torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Clock = Callable[[], float]


class Playback:
    """A listener who began with the first audio that was sent and plays it without a pause.

    speed: how many seconds of the audio are played in one.  clock: seconds, monotonic.
    live: False for one who plays nothing before everything has come.
    """

    def __init__(self, speed: float = 1.0, clock: Clock = time.monotonic, *, live: bool = True) -> None:
        self._speed = speed
        self._clock = clock
        self._live = live
        self._began: float | None = None
        self._sent = 0.0

    def send(self, seconds: float) -> None:
        """Note audio that leaves now."""
        if self._began is None:
            self._began = self._clock()
        self._sent += seconds / self._speed

    @property
    def seconds_ahead(self) -> float:
        """Seconds until the listener has played all that was sent; 0 before anything was. Infinite if not live."""
        if not self._live:
            return math.inf
        return 0.0 if self._began is None else self._began + self._sent - self._clock()
