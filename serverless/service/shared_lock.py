"""Lets many requests through together, or one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """A request that ran out of device memory is tried again with the device to itself; this makes the room.

    `together` is held by any number of requests, `alone` by one and nobody else. One who wants to be alone goes before
    those who come later, so a steady stream of requests cannot keep it waiting.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone_wanted = 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._alone_wanted == 0)
            self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            await self._announce()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._alone_wanted += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._inside == 0)
                self._inside += 1
            try:
                yield
            finally:
                self._inside -= 1
        finally:
            self._alone_wanted -= 1
            await self._announce()

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()
