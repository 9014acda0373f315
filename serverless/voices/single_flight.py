"""Work that several ask for at the same time is done once, and all of them get what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from higgs_core.errors import EngineStoppedError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs calls in `threads`, no two of one key at once. Nothing is remembered: a call that failed is done anew for
    whoever asks next. Safe to use from any thread."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[T]] = {}

    def run(self, key: Hashable, call: Callable[[], T]) -> Future[T]:
        """The outcome of `call`, or of the call of the same key that runs already.

        Whoever gives up waiting takes nothing from the others: the future cannot be cancelled.
        """
        with self._lock:
            running = self._running.get(key)
            if running is not None:
                return running
            future: Future[T] = Future()
            future.set_running_or_notify_cancel()
            self._running[key] = future
        return self._begin(key, future, call)

    def run_alone(self, call: Callable[[], T]) -> Future[T]:
        """The outcome of a call that nobody shares. A future that is cancelled before its turn is never begun."""
        key, future = object(), Future[T]()
        with self._lock:
            self._running[key] = future
        return self._begin(key, future, call)

    def _begin(self, key: Hashable, future: Future[T], call: Callable[[], T]) -> Future[T]:
        try:
            self._threads.submit(self._do, key, future, call)
        except RuntimeError:  # the threads were shut down
            self._end(key)
            future.set_exception(EngineStoppedError("The worker is being stopped."))
        return future

    def _do(self, key: Hashable, future: Future[T], call: Callable[[], T]) -> None:
        if not future.running() and not future.set_running_or_notify_cancel():
            self._end(key)
            return
        try:
            result = call()
        except Exception as error:
            self._end(key)
            future.set_exception(error)
        except BaseException:  # what ends a thread would end the event loops that wait, too
            self._end(key)
            future.set_exception(EngineStoppedError("The thread that made a voice was ended."))
            raise
        else:
            self._end(key)
            future.set_result(result)

    def _end(self, key: Hashable) -> None:
        with self._lock:
            del self._running[key]
