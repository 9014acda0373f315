"""How an engine is made, seen from outside: seconds by what was done, captured steps, kernels and plans chosen.

With `benchmarks.engine_probe` the only module of the benchmarks that names internals of `higgs_core`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any
from unittest import mock

import higgs_core.build
import higgs_core.checkpoint.load
import higgs_core.codec.audio_codec
from higgs_core.build import EngineParts
from higgs_core.kernels import torch_ops
from higgs_core.kernels.ops import Ops
from higgs_core.kernels.plans.linear_plan import plan_entries
from higgs_core.kernels.plans.tuning import Tuner
from higgs_core.kernels.select_ops import plan_in_use
from higgs_core.runtime.decode_graph import StepRunner

Row = dict[str, Any]

_CAUSE_LENGTH = 200  # characters of an error that are kept


@dataclass
class Making:
    """Noted while an engine is built and warmed up.

    seconds: by what was done.  captures: kind, rows and ms of each step, and why it could not be captured.
    plan: as in `plan_entries`.  warnings: of the kernels that were switched off.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    captures: list[Row] = field(default_factory=list)
    plan: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def self_check_seconds(self) -> float:
        """Of choosing the kernels, without timing them."""
        return self.seconds.get("kernels", 0.0) - self.seconds.get("tuning", 0.0)


@contextmanager
def noted_making() -> Iterator[Making]:
    """Functions that make an engine are timed inside, and what they choose is noted."""
    making = Making()
    load, build = higgs_core.checkpoint.load, higgs_core.build
    codec = higgs_core.codec.audio_codec.AudioCodec

    def timed(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            making.seconds[name] = making.seconds.get(name, 0.0) + time.perf_counter() - started

    captured, ranked, ops_for = StepRunner._capture, Tuner.ranked, build.ops_for

    def capture(runner: StepRunner, graphs: Any, rows: int, step: Any) -> list[Exception]:
        started = time.perf_counter()
        failed = timed("capture", captured, runner, graphs, rows, step)
        kind = "text" if graphs is runner._text_graphs else "audio"
        ms = 1000 * (time.perf_counter() - started)
        making.captures.append({"step": kind, "rows": rows, "ms": ms, "failed": "; ".join(map(repr, failed)) or "no"})
        return failed

    def choose(*arguments: Any, **named: Any) -> Ops:
        ops: Ops = timed("kernels", ops_for, *arguments, **named)
        making.plan = plan_entries(plan_in_use(ops))
        return ops

    with ExitStack() as stack:
        for place, name, label in (
            (load, "allocate", "allocation"),
            (load, "read_into", "reading"),
            (codec, "from_folder", "codec"),
        ):
            stack.enter_context(mock.patch.object(place, name, partial(timed, label, getattr(place, name))))
        stack.enter_context(mock.patch.object(StepRunner, "_capture", capture))
        stack.enter_context(mock.patch.object(build, "ops_for", choose))
        stack.enter_context(mock.patch.object(Tuner, "ranked", lambda *key: timed("tuning", ranked, *key)))
        making.warnings = stack.enter_context(kernel_warnings())
        yield making


@contextmanager
def without_kernels() -> Iterator[None]:
    """Engines that are built inside run every operation in torch."""
    with mock.patch.object(higgs_core.build, "ops_for", return_value=torch_ops()):
        yield


@contextmanager
def kernel_warnings() -> Iterator[list[str]]:
    """Warnings that the kernels' loggers emit inside, with the errors that are logged for debugging before them."""
    found: list[str] = []

    class Collect(logging.Handler):
        cause = ""

        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                self.cause = f" ({str(record.exc_info[1]).strip()[:_CAUSE_LENGTH]})"
            if record.levelno >= logging.WARNING:
                found.append(record.getMessage() + self.cause)
                self.cause = ""

    handler = Collect()
    logger = logging.getLogger("higgs_core.kernels")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def operations_with_kernels(ops: Ops) -> list[str]:
    """Names of the operations that are not plain torch."""
    plain = torch_ops()
    return [f.name for f in fields(ops) if getattr(ops, f.name) is not getattr(plain, f.name)]


def operations(parts: EngineParts) -> Ops:
    return parts.decoder._ops
