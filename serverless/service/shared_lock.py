"""A readers-writer lock for tasks of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SharedLock:
    """`shared` is held by any number of tasks, `exclusive` by one and nobody else.

    A task that waits for `exclusive` goes before those that ask for `shared` later, so a steady stream of them cannot
    keep it waiting.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._holders = 0
        self._exclusive_wanted = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._exclusive_wanted == 0)
            self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            await self._notify()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        self._exclusive_wanted += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._holders == 0)
                self._holders += 1
            try:
                yield
            finally:
                self._holders -= 1
        finally:
            self._exclusive_wanted -= 1
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
