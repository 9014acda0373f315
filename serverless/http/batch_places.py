"""When the items of batches may start: each of them is a job among those of everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serverless.service.service import SpeechService

_SHARE_LEFT_FREE = 4
"""One slot in so many stays free of batches, so that a single request finds one."""


class BatchPlaces:
    """The places of one service's jobs, as batches take them. It belongs to one event loop.

    An item starts where a slot is free at once, and one slot in four is left to others. A batch of which nothing is
    under way may also wait for a slot in the queue, like a single request, so that no batch waits for ever.
    """

    def __init__(self, service: SpeechService) -> None:
        self._service = service
        self._starting = 0  # items that have a place and that the service does not count yet
        self._waiting: deque[asyncio.Future[None]] = deque()
        service.observe_jobs(lambda _: self.wake())

    def share(self) -> BatchShare:
        """The part of one batch."""
        return BatchShare(self)

    def free(self, under_way: int) -> bool:
        """Whether one more item may start. under_way: items of its batch that have not ended."""
        slots = self._service.max_concurrency
        taken = self._service.in_flight + self._starting
        return taken < (self._service.capacity if under_way == 0 else slots - slots // _SHARE_LEFT_FREE)

    def wake(self) -> None:
        """Have those who wait look again, in the order in which they came."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Return when a job has ended, or a place was given back."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def count_starting(self, more: int) -> None:
        self._starting += more


class BatchShare:
    """The places that the items of one batch have."""

    def __init__(self, places: BatchPlaces) -> None:
        self._places = places
        self._under_way = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Start]:
        """Wait for a place and keep it until the block ends. Call the Start once the service counts the job itself."""
        while not self._places.free(self._under_way):
            await self._places.changed()
        self._under_way += 1
        start = Start(self._places)
        try:
            yield start
        finally:
            start()
            self._under_way -= 1
            self._places.wake()


class Start:
    """An item between its place and its job."""

    def __init__(self, places: BatchPlaces) -> None:
        self._places: BatchPlaces | None = places
        places.count_starting(1)

    def __call__(self) -> None:
        """The service counts the job, or there is none any more. Later calls do nothing."""
        if self._places is not None:
            self._places.count_starting(-1)
            self._places.wake()
            self._places = None
