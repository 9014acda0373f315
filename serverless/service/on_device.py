"""Work on the device, beside that of others; where its memory does not suffice, once more alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from higgs_core.errors import DeviceMemoryError
from serverless.service.shared_lock import SharedLock

T = TypeVar("T")


async def on_device(
    lock: SharedLock, work: Callable[[], Awaitable[T]], *, before_retry: Callable[[], None] = lambda: None
) -> T:
    """What `work` gives, which is called a second time at most. Raises what it raises."""
    try:
        async with lock.shared():
            return await work()
    except DeviceMemoryError:
        before_retry()
        async with lock.exclusive():
            return await work()
