"""ms a step with weights in 8 bits, of the device alone."""

from __future__ import annotations

from benchmarks.engine_probe import bare_step_ms, free_memory, prepare
from benchmarks.models import random_parts
from benchmarks.stage_context import StageContext
from higgs_core.kernels.linear.quantized_weight import VALUE_DTYPES


def run(context: StageContext) -> None:
    plan = context.plan
    for kind in VALUE_DTYPES:
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
