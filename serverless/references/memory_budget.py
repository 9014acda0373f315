"""How many bytes of clips all requests together may hold. Belongs to one event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class MemoryBudget:
    """limit: bytes. Requests that want more than there is wait, the oldest first.

    The oldest request that holds a share never waits. So one always gets on, and what is held exceeds the limit by no
    more than a single request may hold.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._ages = itertools.count()
        self._shares: dict[int, Share] = {}  # by age; the oldest is the first
        self._waiting: list[_Wish] = []  # by age of the share, then in the order of asking

    @property
    def held(self) -> int:
        """Bytes that all shares hold."""
        return self._held

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A request's share; leaving the block gives everything back."""
        share = Share(self, next(self._ages))
        self._shares[share.age] = share
        try:
            yield share
        finally:
            del self._shares[share.age]
            self._held -= share.held
            share.held = 0
            self._grant()

    async def _take(self, share: Share, nbytes: int) -> None:
        wish = _Wish(share, nbytes, asyncio.get_running_loop().create_future())
        self._waiting.append(wish)
        self._waiting.sort(key=lambda waiting: waiting.share.age)
        self._grant()
        try:
            await wish.granted
        except asyncio.CancelledError:
            if wish in self._waiting:
                self._waiting.remove(wish)
                share.starved = True
                self._grant()
            raise

    def _give_back(self, share: Share, nbytes: int) -> None:
        share.held -= nbytes
        self._held -= nbytes
        self._grant()

    def _grant(self) -> None:
        oldest = next(iter(self._shares), None)
        while self._waiting:
            wish = self._waiting[0]
            if self._held + wish.nbytes > self._limit and wish.share.age != oldest:
                return
            del self._waiting[0]
            if wish.granted.done():  # cancelled a moment ago
                continue
            wish.share.held += wish.nbytes
            self._held += wish.nbytes
            wish.granted.set_result(None)


@dataclass(eq=False)
class Share:
    """What one request holds, in bytes. starved: it was given up while it waited for more."""

    budget: MemoryBudget
    age: int
    held: int = 0
    starved: bool = False

    async def take(self, nbytes: int) -> None:
        """Wait until there are so many bytes more."""
        await self.budget._take(self, nbytes)

    def give_back(self, nbytes: int) -> None:
        self.budget._give_back(self, nbytes)


@dataclass(eq=False)
class _Wish:
    share: Share
    nbytes: int
    granted: asyncio.Future[None] = field(repr=False)
