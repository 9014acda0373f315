"""How tests wait: for a condition, bounded by PATIENCE, never for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

PATIENCE = 600.0
"""Seconds. Long enough for a busy machine: only what never happens takes as long."""

_PAUSE = 0.01
"""Seconds between two looks at a condition."""


def wait_until(holds: Callable[[], bool]) -> None:
    """Return as soon as `holds()`. Raises AssertionError after PATIENCE seconds."""
    for _ in _tries(holds):
        time.sleep(_PAUSE)


async def wait_until_async(holds: Callable[[], bool]) -> None:
    """The same, while the event loop goes on."""
    for _ in _tries(holds):
        await asyncio.sleep(_PAUSE)


def _tries(holds: Callable[[], bool]) -> Iterator[None]:
    """One item for each time that `holds()` is false."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not true within {PATIENCE:.0f} seconds"
        yield
