"""Time from the call to the first chunk on an idle engine: with a new reference, with a cached one and with none."""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.harness import sampled, speech
from benchmarks.stage_context import StageContext
from higgs_core import AudioContent, HiggsAudioEngine
from higgs_core.rates import SAMPLING_RATE

_STEPS = 60


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    if full.no_codec is not None:
        context.add("left out", stage="first-audio", reason=f"no codec: {full.no_codec}")
        return
    noise = np.random.default_rng(1)
    samples = int(plan.reference_seconds * SAMPLING_RATE)

    def clip() -> AudioContent:
        return AudioContent(waveform=noise.standard_normal(samples).astype(np.float32) * 0.1)

    known = clip()
    for reference in (known, clip(), None):  # to warm up
        _seconds(full.engine, reference)
    for name, references in (
        ("cold", [clip() for _ in range(plan.first_audio_rounds)]),
        ("cached", [known] * plan.first_audio_rounds),
        ("none", [None] * plan.first_audio_rounds),
    ):
        times = [1000 * _seconds(full.engine, reference) for reference in references]
        context.add(
            "first audio",
            reference=name,
            reference_seconds=0.0 if name == "none" else plan.reference_seconds,
            ms=statistics.median(times),
            slowest_ms=max(times),
        )


def _seconds(engine: HiggsAudioEngine, clip: AudioContent | None) -> float:
    """The stream is heard out, so that the engine is idle again."""
    started = time.perf_counter()
    with engine.stream(speech(clip), sampled(_STEPS)) as stream:
        next(chunk for chunk in stream if len(chunk.audio))
        seconds = time.perf_counter() - started
        for _ in stream:
            pass
    return seconds
