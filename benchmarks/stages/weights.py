"""ms a step with weights in 8 bits, of the device alone."""

from __future__ import annotations

from benchmarks.engine_probe import bare_step_ms, free_memory, prepare
from benchmarks.making_probe import weight_kinds
from benchmarks.models import random_parts
from benchmarks.stage_context import StageContext


def run(context: StageContext) -> None:
    plan = context.plan
    if not weight_kinds():
        context.add("left out", stage="weights", reason="this engine has weights in its own dtype only")
    for kind in weight_kinds():
        slots = min(context.settings.slots, max(plan.batches))
        parts = random_parts(plan.architecture, plan.device, plan.dtype, slots=slots, context=plan.context, kind=kind)
        prepare(parts)
        for batch in [batch for batch in plan.batches if batch <= parts.decoder.cache.slots]:
            positions = min(700, plan.context // 2)
            ms = bare_step_ms(parts, batch, positions, plan.steps // 10)
            gigabytes = parts.weights.audio_step_nbytes / 1e9
            context.add("8-bit weights", kind=kind, batch=batch, bare_ms=ms, step_gigabytes=gigabytes)
        del parts  # two kinds at once may not fit
        free_memory(plan.device)
