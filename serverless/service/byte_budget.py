"""Memory that waits for somebody else, bounded for all of them together."""

from __future__ import annotations

from collections.abc import Callable


class ByteBudget:
    """How many bytes may be kept in all. It belongs to one event loop.

    Once they are more, the holder of most of them is told to let go of all of its own, until the rest fits.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._holds: set[Hold] = set()

    def fits(self, size: int) -> bool:
        """Whether `size` bytes more would be within the limit."""
        return self.total + size <= self.limit

    def hold(self, let_go: Callable[[], None] = lambda: None) -> Hold:
        """A holder of nothing so far. let_go: called when it holds most of what is too much; it is released then."""
        hold = Hold(self, let_go)
        self._holds.add(hold)
        return hold

    def _resize(self, hold: Hold, size: int) -> None:
        self.total += size - hold.size
        hold.size = size
        while self.total > self.limit:
            largest = max(self._holds, key=lambda each: each.size)
            largest.release()
            largest.let_go()

    def _release(self, hold: Hold) -> None:
        self.total -= hold.size
        hold.size = 0
        self._holds.discard(hold)


class Hold:
    """What one holder keeps. size: bytes. After `release` it counts nothing any more."""

    def __init__(self, budget: ByteBudget, let_go: Callable[[], None]) -> None:
        self.size = 0
        self.let_go = let_go
        self._budget: ByteBudget | None = budget

    def resize(self, size: int) -> None:
        if self._budget is not None:
            self._budget._resize(self, size)

    def release(self) -> None:
        if self._budget is not None:
            self._budget._release(self)
            self._budget = None
