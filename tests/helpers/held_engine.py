"""An engine whose streams stay in the middle of a generation until the test lets them go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.helpers.service import SharedEngine


class _HeldStream:
    """A generation whose reader gets the first audio, and what follows once it may."""

    def __init__(self, stream: Any, may_go_on: threading.Event) -> None:
        self._stream = stream
        self._may_go_on = may_go_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> _HeldStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._stream:
            yield chunk
            assert not len(chunk.audio) or self._may_go_on.wait(PATIENCE)


class HeldEngine(SharedEngine):
    """may_go_on: set it to let its streams go on."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.may_go_on = threading.Event()

    def stream(self, *arguments: Any) -> Any:
        return _HeldStream(super().stream(*arguments), self.may_go_on)


@dataclass
class Held:
    """A server around a HeldEngine, and the event that lets its streams go on."""

    server: Running
    may_go_on: threading.Event
