"""How long to wait before a request is sent again."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first` to `most` seconds, each drawn between half of that and the whole.

    Drawn, so that many workers that failed together do not come back together.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._step = first

    def next(self) -> float:
        """Seconds to wait now."""
        wait = self._step * random.uniform(0.5, 1.0)
        self._step = min(2 * self._step, self._most)
        return wait

    def reset(self) -> None:
        """The next wait is the first one again."""
        self._step = self._first
