"""Ctrl-C: the first one ends the work in order and says what it waits for, the second one ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class Interrupts:
    """Use as a context manager in the main thread.

    first: called at the first Ctrl-C, in the signal's handler; returns what to say, if anything.
    at_once: called before the process ends at the second one.
    """

    def __init__(self, first: Callable[[], str | None], at_once: Callable[[], None] = lambda: None) -> None:
        self._first = first
        self._at_once = at_once
        self._before: Any = None
        self.seen = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            self._at_once()
            os._exit(INTERRUPTED)
        self.seen = True
        if sentence := self._first():
            erase = "\r\x1b[K" if sys.stderr.isatty() else ""  # a line of progress
            sys.stderr.write(f"{erase}{sentence}\n")
            sys.stderr.flush()
