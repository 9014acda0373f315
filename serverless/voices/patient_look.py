"""A look at a folder that may hang, as a network volume does, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class PatientLook:
    """Runs `look`, never twice at once. patience: seconds that anybody waits for it. Safe to use from any thread."""

    def __init__(self, look: Callable[[], None], patience: float) -> None:
        self._look = look
        self._patience = patience
        self._lock = threading.Lock()
        self._running: threading.Event | None = None

    def begin(self) -> None:
        """Have it done and wait for that; where somebody else's is under way, return at once."""
        with self._lock:
            if self._running is not None:
                return
            ended = self._start()
        ended.wait(self._patience)

    def join(self) -> None:
        """Have it done, or wait for the one that is under way."""
        with self._lock:
            ended = self._running or self._start()
        ended.wait(self._patience)

    def _start(self) -> threading.Event:
        ended = self._running = threading.Event()
        threading.Thread(target=self._run, args=(ended,), name="voice-look", daemon=True).start()
        return ended

    def _run(self, ended: threading.Event) -> None:
        try:
            self._look()
        finally:
            with self._lock:
                self._running = None
            ended.set()
