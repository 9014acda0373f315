"""`python -m benchmarks.cpu_full_size`: one second of audio from the full-size model on a CPU, in bf16.

Needs about 14 GB of memory; prints its figures as JSON. The weights are random, so the audio is noise.
"""

from __future__ import annotations

import json
import resource
import time

import torch

from benchmarks.harness import engine_speed, speech, step_nbytes
from benchmarks.models import FULL_SIZE, random_codec, random_parts
from benchmarks.report import say
from higgs_core import HiggsAudioEngine

FRAMES = 25
DELAY = 8  # columns before the first complete frame: the synthetic one and the delay of the last codebook


def main() -> None:
    started = time.perf_counter()
    codec = random_codec("cpu", full_size=True)
    parts = random_parts(FULL_SIZE, "cpu", torch.bfloat16, slots=1, context=512, codec=codec)
    loaded = time.perf_counter() - started
    steps = FRAMES + DELAY
    with HiggsAudioEngine(parts) as engine:
        speed = engine_speed(engine, speech(), 1, steps)
    figures = {
        "parameters": sum(tensor.numel() for tensor in parts.weights._tensors()),
        "weight_gigabytes": parts.weights.nbytes / 1e9,
        "seconds_to_build": loaded,
        "audio_seconds": FRAMES / 25,
        "steps": steps,
        "ms_per_step": speed.ms_per_step,
        "gigabytes_read_per_second": step_nbytes(parts, 1, 200) / speed.ms_per_step / 1e6,
        "seconds_for_everything": speed.wall,
        "peak_resident_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "threads": torch.get_num_threads(),
    }
    say(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
