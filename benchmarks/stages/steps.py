"""ms a step of the whole engine and of the device alone, and the share of the memory bandwidth that they use."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable

import torch

from benchmarks.engine_probe import bare_step_ms
from benchmarks.environment import card_under_load
from benchmarks.full_engine import batches_for
from benchmarks.harness import (
    audio_seconds_per_second,
    copy_bandwidth,
    engine_speed,
    random_codes,
    speech,
    step_nbytes,
)
from benchmarks.stage_context import StageContext
from tests.helpers.transformers_twin import prompt_of

_USED = 0.7
"""Share of its time that a batch size plans to use: an engine's steps take longer than those of the device alone."""


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    parts, engine = full.parts, full.engine
    bandwidth = copy_bandwidth(plan.device, plan.copied_bytes)
    context.add("bandwidth", copied_terabytes_per_second=bandwidth / 1e12)
    sample = speech(random_codes(plan.reference_seconds))
    used = prompt_of(parts, sample).length + plan.steps // 2
    batches, too_large = batches_for(full, plan.batches)
    for number, batch in enumerate(batches):
        share = context.left / (len(batches) - number)  # seconds
        bare = bare_step_ms(parts, batch, used + plan.steps // 10, plan.steps // 10)
        # A slow card gets fewer steps, so that there is time for every batch size.
        steps = max(min(plan.steps, int(_USED * 1000 * share / bare / (plan.rounds + 1))), plan.steps // 5)
        engine_speed(engine, sample, batch, steps // 4)  # what comes up for the first time
        ms = statistics.median(engine_speed(engine, sample, batch, steps).ms_per_step for _ in range(plan.rounds))
        floor = 1000 * step_nbytes(parts, batch, used) / bandwidth
        context.add(
            "steps",
            batch=batch,
            positions=used,
            ms_per_step=ms,
            bare_ms=bare,
            host_ms=ms - bare,
            floor_ms=floor,
            share_of_bandwidth=floor / ms,
            times_real_time=audio_seconds_per_second(ms, 1),
            audio_seconds_per_second=audio_seconds_per_second(ms, batch),
        )
    for batch in too_large:
        context.add("left out", stage="steps", reason=f"batch {batch}: memory has {engine.max_batch_size} slots")
    if plan.device.type == "cuda":
        told = _while_busy(lambda: bare_step_ms(parts, 1, used + 200, 200))
        context.add("clocks under load", nvidia_smi=told or "not there")


def _while_busy(work: Callable[[], object]) -> dict[str, str]:
    """What nvidia-smi says of the card while it works."""
    identity = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    told: dict[str, str] = {}
    asking = threading.Thread(target=lambda: told.update(card_under_load(identity) or card_under_load()))
    asking.start()
    while asking.is_alive():
        work()
    asking.join()
    return told
