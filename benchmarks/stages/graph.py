"""Captured steps against the same steps run operation by operation, also when a row becomes inactive on the way."""

from __future__ import annotations

import torch

from benchmarks.engine_probe import columns_of_steps
from benchmarks.harness import sampled
from benchmarks.models import random_parts
from benchmarks.stage_context import StageContext
from higgs_core import GenerationParams

_STEPS = 24


def run(context: StageContext) -> None:
    """Columns must be the same. Without a GPU nothing is captured, and steps are compared with themselves."""
    plan = context.plan
    slots = min(context.settings.slots, max(plan.checked_rows))
    parts = random_parts(plan.checked, plan.device, plan.dtype, slots=slots, context=plan.context)
    with torch.inference_mode():
        for rows in [rows for rows in plan.checked_rows if rows <= parts.decoder.cache.slots]:
            plain = columns_of_steps(parts, rows, _params, _STEPS, capture=False)
            captured = columns_of_steps(parts, rows, _params, _STEPS, capture=plan.device.type == "cuda")
            same = float((plain == captured).all(-1).float().mean())
            context.add("captured against plain steps", rows=rows, steps=_STEPS, same=same, passed=same == 1.0)


def _params(row: int) -> GenerationParams:
    """The second row is greedy, the others are sampled."""
    return GenerationParams(temperature=0.0) if row == 1 else sampled(_STEPS)
