"""A readers-writer lock for tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class SharedLock:
    """`shared` is held by any number of tasks, `exclusive` by one and nobody else.

    A task that waits for `exclusive` goes before those that ask for `shared` later, so a steady stream of them cannot
    keep it waiting. Letting go awaits nothing: a task that is cancelled while it does so still wakes the others.
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._holders = 0
        self._exclusive_wanted = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        await self._until(lambda: self._exclusive_wanted == 0)
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._wake()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        self._exclusive_wanted += 1
        try:
            await self._until(lambda: self._holders == 0)
            self._holders += 1
            try:
                yield
            finally:
                self._holders -= 1
        finally:
            self._exclusive_wanted -= 1
            self._wake()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(changed)
            try:
                await changed
            finally:
                if changed in self._waiting:  # cancelled, and nobody has woken it
                    self._waiting.remove(changed)

    def _wake(self) -> None:
        """Let everybody who waits look again."""
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            if not changed.done():
                changed.set_result(None)
