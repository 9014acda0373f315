"""Decodes clips in a few threads of their own, which no other work waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from higgs_core.cancellation import CancelToken

T = TypeVar("T")

AT_ONCE = 4
"""Clips that are decoded at the same time, each by one thread and at most one child process."""


class NoPlace(Exception):
    """Every thread was busy until the deadline."""


class ClipDecoder:
    """Clips are decoded in the order in which they came. A request decodes one after the other, so all get their turn.

    A thread is free for the next clip only when it has done with the one before.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clip")

    async def run(self, decode: Callable[[CancelToken], T], deadline: float) -> T:
        """What `decode` returns or raises. It gets a token that is cancelled when its result is not wanted any more.

        deadline: by `time.monotonic`, for the wait and the work together.
        Raises NoPlace, and TimeoutError where it had begun; the task's own cancellation passes through at once.
        """
        cancel, begun = CancelToken(), threading.Event()

        def begin() -> T:
            cancel.raise_if_cancelled()
            if time.monotonic() >= deadline:
                raise NoPlace
            begun.set()
            return decode(cancel)

        work = self._threads.submit(begin)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            if begun.is_set():
                raise
            raise NoPlace from None
        finally:
            work.cancel()
            cancel.cancel()

    def close(self) -> None:
        """Take no more clips; those that wait are given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
