"""Continuous streams of requests that end by themselves: audio a second, first audio, under-runs.

A new request begins where one ends, so that as many streams as wanted are always active. The codec decodes all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.closed_loop import ClosedLoop, Heard
from benchmarks.full_engine import FullEngine, batches_for
from benchmarks.harness import sampled, speech
from benchmarks.speech_ends import ending_by_itself
from benchmarks.stage_context import StageContext

_SHORTEST, _LONGEST = 75, 375  # columns of a request on average: 3 to 15 s
_TRIES = 4
_FOR_TRIES = 0.8  # share of the stage's time that must be left for another
_MEASURED_FOR_LENGTH = 16  # requests
_LEAST_TIME = 1.5  # times that of a measurement; also requests under way at its end are heard out


def run(context: StageContext) -> None:
    plan, full = context.plan, context.engine()
    if full.no_codec is not None:
        context.add("left out", stage="traffic", reason=f"no codec: {full.no_codec}")
        return
    streams, too_many = batches_for(full, plan.streams)
    seed = _seed_of_usual_lengths(context, full)
    with ending_by_itself(full.parts, plan.mean_columns, seed):
        for count in streams:
            if context.left < _LEAST_TIME * plan.traffic_seconds:
                context.add("left out", stage="traffic", reason=f"{count} streams: {context.left:.0f} s were left")
                continue
            loop = ClosedLoop(full.engine, plan.reference_seconds, plan.most_columns)
            loop.run(count, plan.traffic_seconds / 5)  # every voice is known and every shape captured after it
            _report(context, count, loop, plan.traffic_seconds)
    for count in too_many:
        context.add("left out", stage="traffic", reason=f"{count} streams: memory has {full.engine.max_batch_size}")


def _seed_of_usual_lengths(context: StageContext, full: FullEngine) -> int:
    """How long a random model speaks depends on its weights: the first that speaks for 3 to 15 s on average."""
    best, distance = 0, float("inf")
    for seed in range(_TRIES):
        with ending_by_itself(full.parts, context.plan.mean_columns, seed):
            params = [sampled(context.plan.most_columns, number) for number in range(_MEASURED_FOR_LENGTH)]
            results = [future.result() for future in [full.engine.submit(speech(), each) for each in params]]
        columns = [result.delayed_audio_columns[0].shape[1] for result in results]
        mean = sum(columns) / len(columns)
        ended = [result.finish_reason for result in results].count("stop") / len(results)
        context.add("request lengths", seed=seed, mean_seconds=mean / 25, ended_by_themselves=ended)
        off = max(_SHORTEST - mean, mean - _LONGEST, 0.0)
        if off < distance:
            best, distance = seed, off
        if not off or context.settings.dry_run or context.left < _FOR_TRIES * context.seconds:
            break
    return best


def _report(context: StageContext, count: int, loop: ClosedLoop, seconds: float) -> None:
    measured = loop.run(count, seconds)
    heard = measured.requests
    speeds = [request.audio_seconds / request.seconds for request in heard]
    context.add(
        "traffic",
        streams=count,
        requests=len(heard),
        mean_seconds=float(np.mean([request.audio_seconds for request in heard])),
        ended_by_themselves=float(np.mean([request.finish_reason == "stop" for request in heard])),
        audio_seconds_per_second=measured.audio_seconds_per_second,
        times_real_time=float(np.median(speeds)),
        slowest_times_real_time=min(speeds),
        under_runs=sum(request.stalled_seconds > 0 for request in heard),
        stalled_seconds=sum(request.stalled_seconds for request in heard),
        margin_p5_seconds=_percentile([request.margin_seconds for request in heard], 5),
        worst_margin_seconds=min(request.margin_seconds for request in heard),
    )
    for reference in ("cached", "cold"):
        _first_audio(context, count, reference, [each for each in heard if each.reference == reference])


def _first_audio(context: StageContext, count: int, reference: str, heard: Sequence[Heard]) -> None:
    if not heard:
        context.add("left out", stage="traffic", reason=f"no request with a {reference} reference ended in time")
        return
    times = [1000 * request.first_audio_seconds for request in heard]
    context.add(
        "first audio under load",
        streams=count,
        reference=reference,
        requests=len(times),
        p50_ms=_percentile(times, 50),
        p95_ms=_percentile(times, 95),
        p99_ms=_percentile(times, 99),
    )


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share))
