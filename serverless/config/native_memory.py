"""glibc's allocator, which keeps what was freed: bounds on how much, and a way to have it given back.

Python holds nothing from one job to the next. But torch computes speech of any length in several threads, glibc gives
each thread an arena of its own, and what is freed in one lies between what is kept and is of no use to the others. So a
worker's memory rises for hours without anybody holding it.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_ARENAS = 2
"""The engine and the codec seldom allocate at the same moment; more arenas made nothing faster."""

EVERY_JOBS = 16
"""Jobs after which freed memory is given back. It costs a few milliseconds, and some more to get the memory again."""

QUIET_SECONDS = 1.0
"""Without the end of a job, after which freed memory is given back too."""

_M_ARENA_MAX = -8
"""glibc's number for `mallopt`, from its malloc.h."""


def bound_arenas() -> None:
    """Call this before there are threads. What the environment says (MALLOC_ARENA_MAX, GLIBC_TUNABLES) stays."""
    if "MALLOC_ARENA_MAX" not in os.environ and "arena_max" not in os.environ.get("GLIBC_TUNABLES", ""):
        _call("mallopt", _M_ARENA_MAX, _ARENAS)


def give_back_freed_memory() -> None:
    """Return whole free pages of every arena to the system: some milliseconds, in which other threads wait to allocate.

    From any thread; Python's own lock is free meanwhile.
    """
    _call("malloc_trim", 0)


class FreedMemory:
    """An observer of jobs: freed memory is given back after EVERY_JOBS of them, and once no job has ended for
    QUIET_SECONDS, in a thread of its own."""

    def __init__(self, give_back: Callable[[], None] = give_back_freed_memory) -> None:
        self._give_back = give_back
        self._ended: queue.SimpleQueue[object] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="freed-memory", daemon=True).start()

    def __call__(self, outcome: object) -> None:
        """A job has ended, in whatever way. Never blocks."""
        self._ended.put(None)

    def _run(self) -> None:
        while True:
            self._ended.get()
            with suppress(queue.Empty):
                for _ in range(EVERY_JOBS - 1):
                    self._ended.get(timeout=QUIET_SECONDS)
            self._give_back()


def _call(name: str, *arguments: int) -> None:
    function: Any = getattr(ctypes.CDLL(None), name, None)
    if function is not None:  # only glibc has these
        function(*arguments)
