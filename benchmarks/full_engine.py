"""The engine that the stages of speed share: full size, random weights and codec, warmed up."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from benchmarks.gpu_plan import Plan
from benchmarks.making_probe import Making, noted_making, without_kernels
from benchmarks.models import random_codec, random_parts
from benchmarks.stage_context import Settings
from higgs_core import HiggsAudioEngine
from higgs_core.build import EngineParts


@dataclass(frozen=True)
class FullEngine:
    """no_codec: why there is none; None if there is one.  kernels: whether they were allowed."""

    parts: EngineParts
    engine: HiggsAudioEngine
    making: Making
    making_seconds: float
    warm_up_seconds: float
    kernels: bool
    no_codec: str | None


def build(plan: Plan, settings: Settings) -> FullEngine:
    codec, no_codec = None, None
    try:
        codec = random_codec(plan.device, full_size=plan.full_codec)
    except Exception as error:  # most stages can be measured without a codec
        no_codec = f"{type(error).__name__}: {error}"[:300]
    started = time.perf_counter()
    slots = min(settings.slots, max(*plan.batches, *plan.streams))
    with contextlib.nullcontext() if settings.kernels else without_kernels(), noted_making() as making:
        parts = random_parts(plan.architecture, plan.device, plan.dtype, slots=slots, context=plan.context, codec=codec)
        engine = HiggsAudioEngine(parts)
        made = time.perf_counter()
        engine.warm_up()
    warm = time.perf_counter()
    return FullEngine(parts, engine, making, made - started, warm - made, settings.kernels, no_codec)


def batches_for(full: FullEngine, wanted: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The batch sizes that the engine has slots for, and the others."""
    slots = full.engine.max_batch_size
    return [batch for batch in wanted if batch <= slots], [batch for batch in wanted if batch > slots]
