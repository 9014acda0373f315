"""Whole decode steps with this device's kernels against plain torch, at several batch sizes and lengths."""

from __future__ import annotations

import torch

from benchmarks.engine_probe import free_memory, logits_of_step
from benchmarks.making_probe import kernel_warnings, operations_with_kernels
from benchmarks.models import random_parts
from benchmarks.stage_context import StageContext
from higgs_core.build import EngineParts
from higgs_core.kernels import ops_for, torch_ops

_LIMITS = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Largest error of a row, as a share of the row's norm."""


def run(context: StageContext) -> None:
    plan = context.plan
    for dtype in (plan.dtype, torch.float32):
        slots = min(context.settings.slots, max(plan.checked_rows))
        parts = random_parts(plan.checked, plan.device, dtype, slots=slots, context=plan.context)
        with torch.inference_mode():
            _against_torch(context, parts, str(dtype).removeprefix("torch."), _LIMITS[dtype])
        del parts
        free_memory(plan.device)


def _against_torch(context: StageContext, parts: EngineParts, dtype: str, limit: float) -> None:
    with kernel_warnings() as switched_off:
        ours = ops_for(parts.config, parts.device, parts.weights.norm.dtype)
    context.add(
        "kernels",
        dtype=dtype,
        own=", ".join(operations_with_kernels(ours)) or "none",
        switched_off="; ".join(switched_off) or "none",
    )
    for rows in [rows for rows in context.plan.checked_rows if rows <= parts.decoder.cache.slots]:
        expected, their_cache, their_rest = logits_of_step(parts, torch_ops(), rows)
        found, our_cache, our_rest = logits_of_step(parts, ours, rows)
        error = _worst_row(found, expected, dim=0)
        cache_error = _worst_row(our_cache.float(), their_cache.float(), dim=2)
        untouched = torch.equal(our_rest, their_rest)
        context.add(
            "kernels against torch",
            what=f"{dtype} step of {rows}",
            error=error,
            cache_error=cache_error,
            rest_untouched=untouched,
            passed=error < limit and cache_error < limit and untouched,
        )


def _worst_row(found: torch.Tensor, expected: torch.Tensor, dim: int) -> float:
    """The largest error of a row, as a share of its norm. dim: which dimension counts the rows."""
    off = (found - expected).movedim(dim, 0).flatten(1).norm(dim=1)
    return float((off / expected.movedim(dim, 0).flatten(1).norm(dim=1)).max())
