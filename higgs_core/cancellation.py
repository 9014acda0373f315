"""How a request is cancelled from another thread: a flag that runs callbacks when it is set. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from higgs_core.errors import GenerationCancelled


class CancelToken:
    """Set once, from any thread, and never unset. Whoever waits for a request's work registers how to end the wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Set the flag and run the callbacks that are registered, in this thread. A second call does nothing."""
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def raise_if_cancelled(self) -> None:
        """Raises GenerationCancelled."""
        if self._cancelled:
            raise GenerationCancelled("The request was cancelled.")

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Iterator[None]:
        """Inside the block, `cancel` calls `callback`; at once if the token is cancelled already."""
        with self._lock:
            registered = not self._cancelled
            if registered:
                self._callbacks.append(callback)
        if not registered:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)
