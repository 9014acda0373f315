"""What a stage is given: sizes, a place for its rows, its time, and the engine that it shares with its neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.full_engine import FullEngine
    from benchmarks.gpu_plan import Plan


@dataclass(frozen=True)
class Settings:
    """Of a worker. slots: the most that an engine may have.  kernels: false runs every operation in torch."""

    dry_run: bool
    slots: int
    kernels: bool = True


class StageContext:
    """Loads torch only when a stage needs it. send: passes one message to the supervisor.

    seconds: the limit of the stage under way.
    """

    def __init__(self, settings: Settings, send: Callable[[dict[str, Any]], None]) -> None:
        self.settings = settings
        self._send = send
        self.seconds = 0.0
        self._until = 0.0
        self._engine: FullEngine | None = None
        self._plan: Plan | None = None

    def begin(self, seconds: float) -> None:
        """A stage with so much time begins."""
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    def add(self, heading: str, **figures: Any) -> None:
        """One row of the report, which keeps it at once."""
        self._send({"row": {"heading": heading, **figures}})

    @property
    def left(self) -> float:
        """Seconds until the stage is ended from outside."""
        return self._until - time.monotonic()

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            from benchmarks.gpu_plan import dry_run, on_gpu

            self._plan = dry_run() if self.settings.dry_run else on_gpu()
        return self._plan

    def engine(self) -> FullEngine:
        """The full-size engine with random weights, warmed up. The first stage of a worker that asks has it built."""
        if self._engine is None:
            from benchmarks.full_engine import build

            self._send({"phase": "building"})
            self._engine = build(self.plan, self.settings)
            self._send({"phase": "built"})
            self._until = time.monotonic() + self.seconds  # the limit counts from here
        return self._engine
