"""How the full-size engine is made: seconds, kernels, the plan of its linear kernels, captured steps."""

from __future__ import annotations

from benchmarks.making_probe import operations, operations_with_kernels
from benchmarks.stage_context import StageContext


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    parts, making = full.parts, full.making
    context.add(
        "engine",
        model=plan.architecture.name,
        dtype=str(plan.dtype).removeprefix("torch."),
        weight_gigabytes=parts.weights.nbytes / 1e9,
        slots=full.engine.max_batch_size,
        wanted_slots=max(*plan.batches, *plan.streams),
        context=full.engine.max_context,
        making_seconds=full.making_seconds,
        self_check_seconds=making.self_check_seconds,
        tuning_seconds=making.seconds.get("tuning", 0.0),
        warm_up_seconds=full.warm_up_seconds,
        capture_seconds=making.seconds.get("capture", 0.0),
        graphs=len(making.captures),
        codec=full.no_codec or "there",
    )
    context.add(
        "kernels of the engine",
        own=", ".join(operations_with_kernels(operations(parts))) or "none",
        switched_off="; ".join(making.warnings) or "none",
        why=_why(context, kernels=full.kernels),
    )
    for capture in making.captures:
        context.add("capture", **capture)
    for choice in making.plan:
        context.add("plan", **choice)


def _why(context: StageContext, *, kernels: bool) -> str:
    """Why the operations are what they are, where no kernel was switched off by its check."""
    if context.plan.device.type != "cuda":
        return "a CPU runs every operation in torch"
    return "each was checked against torch" if kernels else "switched off after crashes"
