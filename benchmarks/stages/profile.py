"""Which kernels a step consists of, and how long each takes, by torch's profiler."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine_probe import speaking_rows, step, synchronize
from benchmarks.full_engine import batches_for
from benchmarks.stage_context import StageContext

_STEPS = 5
_KERNELS_SHOWN = 25
_NAME_LENGTH = 90


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    parts = full.parts
    rows_measured, too_large = batches_for(full, plan.profiled_rows)
    for rows in rows_measured:
        used = min(700, parts.decoder.cache.context // 2)
        with speaking_rows(parts, rows, used - 5 * _STEPS) as put_back:
            for _ in range(_STEPS):
                step(parts, rows, used)
            put_back()
            synchronize(plan.device)
            _table(context, rows, partial(step, parts, rows, used), plan.device)
    for rows in too_large:
        context.add("left out", stage="profile", reason=f"{rows} rows: memory has {full.engine.max_batch_size} slots")


def _table(context: StageContext, rows: int, one_step: Callable[[], Any], device: torch.device) -> None:
    """A row of the report a kernel, the longest first; on a CPU an operation."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    for _ in range(2):  # the first time much is set up, and calls may be missing
        with profile(activities=activities) as profiler:
            for _ in range(_STEPS):
                one_step()
            synchronize(device)
    spans = defaultdict(list)  # by name: start and end of each call, in microseconds
    for event in profiler.events():
        if (event.device_type == DeviceType.CUDA) == on_gpu and not event.cpu_children:
            spans[event.name].append((event.time_range.start, event.time_range.end))
    if not spans:
        reason = f"{rows} rows: the profiler saw nothing on the device; CUPTI may not be allowed here"
        context.add("left out", stage="profile", reason=reason)
        return
    totals = {name: sum(end - start for start, end in calls) / _STEPS for name, calls in spans.items()}
    every = sum(totals.values())
    longest = sorted(totals, key=totals.__getitem__, reverse=True)
    for name in longest[:_KERNELS_SHOWN]:
        calls = len(spans[name]) / _STEPS
        context.add(
            "profile",
            rows=rows,
            kernel=name[:_NAME_LENGTH],
            calls=calls,
            us_each=totals[name] / calls,
            us_total=totals[name],
            share=totals[name] / every,
        )
    begin = min(start for calls in spans.values() for start, _ in calls)
    end = max(end for calls in spans.values() for _, end in calls)
    context.add(
        "profile of a step",
        rows=rows,
        kernels=sum(map(len, spans.values())) / _STEPS,
        us_in_kernels=every,
        us_per_step=(end - begin) / _STEPS,
        us_of_kernels_not_shown=sum(totals[name] for name in longest[_KERNELS_SHOWN:]),
    )
