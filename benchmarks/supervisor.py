"""Runs stages one after the other in processes of their own, so that none takes another with it.

A stage that fails, crashes its process or exceeds its time is reported with the reason, and the next one starts in a
new process. Rows arrive one by one and are kept whatever happens to the stage behind them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import Report, say
from benchmarks.stage_context import Settings
from benchmarks.stage_list import Stage
from benchmarks.stage_process import Message, StageProcess, StageProcessError, TimeUp

_BUILDING_SECONDS = 150.0
"""Limit for the engine: the first time kernels are compiled and measured."""
_SHORTEST = 5.0
"""Seconds with which a stage is still begun."""
_CRASHES_WITH_KERNELS = 2
"""Stages that may crash before the rest runs without kernels."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a stage ended. reason: None if it came to its end.  building: the engine was being built."""

    reason: str | None = None
    out_of_memory: bool = False
    crashed: bool = False
    building: bool = False


class Supervisor:
    """report: gets the rows of all stages.  deadline: of `time.monotonic`, by which the last stage is ended.

    log: a file for what the processes print.  patience: times the limits of stages.
    """

    def __init__(
        self, report: Report, settings: Settings, deadline: float, log: Path, *, patience: float = 1.0
    ) -> None:
        self.failures = 0
        self._report = report
        self._settings = settings
        self._deadline = deadline
        self._log = log
        self._patience = patience
        self._process: StageProcess | None = None
        self._crashes = 0
        self._no_engine: str | None = None  # why none can be built

    def run(self, stages: Sequence[Stage]) -> None:
        """Every stage that begins in time. An interruption by the user leaves the rest out."""
        waiting = list(stages)
        try:
            while waiting:
                self._run_stage(waiting[0])
                waiting.pop(0)
        except KeyboardInterrupt:
            self.failures += 1
            for stage in waiting:
                self._report.add("left out", stage=stage.name, reason="interrupted")
        finally:
            self._end_process()

    def _run_stage(self, stage: Stage) -> None:
        """Run a stage; where memory or the kernels are the reason that it fails, once more with less."""
        if stage.fresh:
            self._end_process()
        while True:
            left = self._deadline - time.monotonic()
            if left < _SHORTEST:
                self._report.add("left out", stage=stage.name, reason="no time was left for it")
                return
            outcome = self._attempt(stage, min(stage.seconds * self._patience, left))
            if outcome.reason is None:
                break
            self._end_process()
            changed = self._with_less(outcome)
            if changed is None:
                self.failures += 1
                break
            what = f"{changed.slots} slots" if changed.kernels else "kernels off"
            self._report.add("retried", stage=stage.name, reason=outcome.reason, now=what)
            self._settings = changed
        if stage.last:
            self._end_process()

    def _with_less(self, outcome: Outcome) -> Settings | None:
        """Settings with which the stage that ended so may succeed; None if there are none to try."""
        settings = self._settings
        if outcome.out_of_memory and settings.slots > 1:
            return replace(settings, slots=max(settings.slots // 4, 1))
        if outcome.building and not outcome.out_of_memory and settings.kernels:
            return replace(settings, kernels=False)
        if outcome.building:
            self._no_engine = outcome.reason
        self._crashes += outcome.crashed
        if self._crashes == _CRASHES_WITH_KERNELS and settings.kernels:
            self._settings = replace(settings, kernels=False)
            self._report.add("kernels off", reason=f"{self._crashes} stages crashed with them")
        return None

    def _attempt(self, stage: Stage, seconds: float) -> Outcome:
        """Run a stage once; its rows, and how it ended, go to the report."""
        say(f"-- {stage.name}: at most {seconds:.0f} s, {self._deadline - time.monotonic():.0f} s left for all")
        started = time.monotonic()
        outcome, peaks = Outcome(), {}
        building = False
        if self._process is None:
            self._process = StageProcess(self._settings, self._log)
        try:
            for message in self._process.run(stage, seconds):
                if "row" in message:
                    self._report.add(**message["row"])
                elif "phase" in message:
                    building = message["phase"] == "building"
                    self._engine_phase(building, seconds)
                else:
                    outcome, peaks = _ended(message["end"], building)
        except _NoEngine as error:
            outcome = Outcome(str(error))
        except StageProcessError as error:
            outcome = Outcome(str(error), crashed=not isinstance(error, TimeUp), building=building)
        if outcome.reason is not None:
            printed = self._process.log_end()
            self._report.add("failed", stage=stage.name, reason=outcome.reason, log=printed)
        self._report.add("stage", stage=stage.name, seconds=time.monotonic() - started, **peaks)
        return outcome

    def _engine_phase(self, building: bool, seconds: float) -> None:
        """The engine is about to be built, or has been. The stage's own limit counts behind that."""
        assert self._process is not None
        if building and self._no_engine is not None:
            raise _NoEngine(f"the engine cannot be built: {self._no_engine}")
        limit = _BUILDING_SECONDS * self._patience if building else seconds
        self._process.allow(min(limit, max(self._deadline - time.monotonic(), 0.0)))

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


class _NoEngine(Exception):
    """An earlier stage has found that no engine can be built."""


def _ended(end: Message, building: bool) -> tuple[Outcome, dict[str, float]]:
    """What a stage says of its end: the outcome, and the peaks of memory."""
    reason, out_of_memory, crashed = (end.pop(name, None) for name in ("error", "out_of_memory", "crashed"))
    return Outcome(reason, bool(out_of_memory), bool(crashed), building), end
