"""ms of a prompt's prefill by its length, and of a text step."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.engine_probe import prefill_ms
from benchmarks.harness import prompt_of_length, sampled
from benchmarks.stage_context import StageContext
from tests.helpers.transformers_twin import prompt_of

_ROUNDS = 5
_ROOM = 32  # positions of the context behind a prompt


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    engine = full.engine
    for wanted in plan.prefills:
        length = min(wanted, engine.max_context - _ROOM)
        host, device = prefill_ms(full.parts, prompt_of(full.parts, prompt_of_length(full.parts, length, 0)))
        whole = []
        for turn in range(_ROUNDS + 1):
            # A different first word each time, or the prefix cache would answer.
            result = engine.generate(prompt_of_length(full.parts, length, turn), sampled(2))
            whole.append(1000 * result.timings["prefill"])
        context.add(
            "prefill",
            positions=length,
            wanted=wanted,
            host_ms=host,
            ms=device,
            request_ms=statistics.median(whole[1:]),
        )
    _text(context)


def _text(context: StageContext) -> None:
    """Requests that write text before they speak: of each the first token is the prompt's, the others are steps."""
    plan, full = context.plan, context.engine()
    times, written = [], 0
    for seed in range(_ROUNDS + 1):
        params = replace(sampled(plan.text_tokens, seed), force_audio_gen=False, stop_strings=())
        result = full.engine.generate(prompt_of_length(full.parts, 64, seed), params)
        tokens = len(result.text_token_ids)
        if seed and tokens > 1 and not result.delayed_audio_columns:
            times.append(1000 * result.timings["decode"] / (tokens - 1))
            written += tokens
    if not times:
        context.add("left out", stage="prefill", reason="no request wrote text alone")
        return
    context.add("text step", ms=statistics.median(times), slowest_ms=max(times), tokens=written)
