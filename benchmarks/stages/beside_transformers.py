"""transformers' `generate` on the same weights, prompt and sampling, in turns with the engine."""

from __future__ import annotations

from functools import partial

from benchmarks.full_engine import batches_for
from benchmarks.harness import TransformersSide, engine_speed, in_turns, random_codes, speech
from benchmarks.stage_context import StageContext

_ROUNDS = 2


def run(context: StageContext) -> None:
    """Its model is made of views of the engine's weights, so that it takes no memory for them."""
    plan, full = context.plan, context.engine()
    sample = speech(random_codes(plan.reference_seconds))
    theirs = TransformersSide(full.parts, sample)
    batches, _ = batches_for(full, plan.transformers_batches)
    for batch in batches:
        sides = {
            "ours": partial(engine_speed, full.engine, sample, batch, plan.transformers_steps),
            "theirs": partial(theirs.speed, batch, plan.transformers_steps),
        }
        medians = in_turns(sides, _ROUNDS)
        context.add(
            "beside transformers",
            batch=batch,
            ms_per_step=medians["ours"],
            transformers_ms=medians["theirs"],
            ratio=medians["theirs"] / medians["ours"],
        )
