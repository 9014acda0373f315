"""Name look-ups in threads of their own: so many at once and no more, each name once at a time.

A look-up cannot be interrupted, so nobody waits for its thread: who gives up leaves, and the thread ends when the
system's resolver does. The threads are daemons, as a process must not wait for them at its end either.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field


class NameLookups:
    """at_once: threads. Further look-ups wait in the order in which they were asked for."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._threads = 0
        self._queue: deque[_Lookup] = deque()
        self._known: dict[Hashable, _Lookup] = {}  # that wait or run

    @property
    def threads(self) -> int:
        """Threads that run."""
        return self._threads

    async def addresses(self, key: Hashable, look_up: Callable[[], list[str]]) -> list[str]:
        """What `look_up` returns or raises. Equal keys at the same time share one look-up."""
        lookup = self._joined(key, look_up)
        try:
            return await asyncio.shield(asyncio.wrap_future(lookup.outcome))
        finally:
            self._leave(lookup)

    def _joined(self, key: Hashable, look_up: Callable[[], list[str]]) -> _Lookup:
        with self._lock:
            lookup = self._known.get(key)
            if lookup is None:
                lookup = self._known[key] = _Lookup(key, look_up)
                self._queue.append(lookup)
                if self._threads < self._at_once:
                    self._threads += 1
                    threading.Thread(target=self._work, name="host-look-up", daemon=True).start()
            lookup.waiters += 1
        return lookup

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiters -= 1
            if not lookup.waiters and lookup in self._queue:
                self._queue.remove(lookup)
                self._forget(lookup)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                lookup = self._queue.popleft()
            try:
                addresses = lookup.look_up()
            except BaseException as error:
                self._finish(lookup)
                lookup.outcome.set_exception(error)
            else:
                self._finish(lookup)
                lookup.outcome.set_result(addresses)

    def _finish(self, lookup: _Lookup) -> None:
        with self._lock:
            self._forget(lookup)

    def _forget(self, lookup: _Lookup) -> None:
        if self._known.get(lookup.key) is lookup:
            del self._known[lookup.key]


@dataclass(eq=False)
class _Lookup:
    key: Hashable
    look_up: Callable[[], list[str]]
    outcome: Future[list[str]] = field(default_factory=Future)
    waiters: int = 0
