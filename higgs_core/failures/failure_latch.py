"""The failure that ends an engine: noticed by one thread, told to all that hold requests. Imports no torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from higgs_core.errors import EngineStoppedError

log = logging.getLogger(__name__)

Listener = Callable[[EngineStoppedError], object]


class FailureLatch:
    """Tripped once, from any thread, and never reset: the first failure is the one that is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: EngineStoppedError | None = None
        self._listeners: list[Listener] = []

    @property
    def error(self) -> EngineStoppedError | None:
        """What ended the engine; None while it works. A new object each time, which nobody else raises."""
        return None if self._error is None else EngineStoppedError(self._error.message)

    @property
    def tripped(self) -> bool:
        return self._error is not None

    def trip(self, error: EngineStoppedError) -> None:
        """Tell every listener, in this thread and in the order of their coming. A second call does nothing."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            listeners, self._listeners = self._listeners, []
        log.error("The engine is given up: %s", error.message)
        for listener in listeners:
            _tell(listener, error)

    def on_trip(self, listener: Listener) -> None:
        """Call `listener` once, from whichever thread trips the latch; at once if it is tripped already."""
        with self._lock:
            if self._error is None:
                self._listeners.append(listener)
                return
        _tell(listener, self._error)


def _tell(listener: Listener, error: EngineStoppedError) -> None:
    try:
        listener(EngineStoppedError(error.message))
    except BaseException as defect:  # whatever one listener raises, the next must hear of the failure
        log.error("A listener failed: %s", type(defect).__name__, exc_info=defect)
