"""How fast a session's messages are read: a text letter by letter at once, but not one such text after another."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """A token bucket. rate: messages a second in the long run.  burst: messages that may come at once.

    clock: seconds, monotonic.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._counted = clock()

    def next(self) -> float:
        """Count one message. Returns the seconds to wait before it is taken."""
        now = self._clock()
        self._left = min(self._left + (now - self._counted) * self._rate, self._burst) - 1
        self._counted = now
        return max(0.0, -self._left / self._rate)
