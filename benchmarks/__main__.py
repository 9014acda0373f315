"""`python -m benchmarks`: the engine against transformers on this machine.

On a CPU: two small models with as many layers as the released one. On a GPU: the full size, as benchmarks.gpu.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from benchmarks import gpu
from benchmarks.engine_probe import bare_step_ms
from benchmarks.environment import software
from benchmarks.harness import (
    TransformersSide,
    audio_seconds_per_second,
    engine_speed,
    in_turns,
    random_codes,
    speech,
)
from benchmarks.models import HIDDEN_128, HIDDEN_512, Architecture, random_parts
from benchmarks.report import Report, say
from higgs_core import HiggsAudioEngine

CONTEXT = 512
ALONE = 1


def main(arguments: list[str] | None = None) -> int:
    if torch.cuda.is_available():
        return gpu.main(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/benchmark-cpu.json"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    chosen = parser.parse_args(arguments)
    report = Report(chosen.output, {**software(), "threads": torch.get_num_threads()})
    for architecture in (HIDDEN_128, HIDDEN_512):
        for dtype in (torch.float32, torch.bfloat16):
            _one_model(report, architecture, dtype, chosen.batches, chosen.rounds, chosen.steps)
    say("\n" + report.table())
    return 0


def _one_model(
    report: Report, architecture: Architecture, dtype: torch.dtype, batches: list[int], rounds: int, steps: int
) -> None:
    parts = random_parts(architecture, "cpu", dtype, slots=max(batches), context=CONTEXT)
    sample = speech(random_codes(2.0))
    theirs = TransformersSide(parts, sample)
    alone = None
    with HiggsAudioEngine(parts) as engine:
        engine.warm_up()  # chooses the threads of a step; transformers uses all of them
        for batch in batches:
            ms = in_turns(
                {
                    "ours": partial(engine_speed, engine, sample, batch, steps),
                    "theirs": partial(theirs.speed, batch, steps),
                },
                rounds,
            )
            audio = audio_seconds_per_second(ms["ours"], batch)
            alone = alone or (audio if batch == ALONE else None)
            bare = bare_step_ms(parts, batch, CONTEXT // 2, steps // 2)
            report.add(
                f"{architecture.name} x {architecture.layers}",
                dtype=str(dtype).removeprefix("torch."),
                batch=batch,
                ms_per_step=ms["ours"],
                steps_per_second=1000 / ms["ours"],
                transformers_ms=ms["theirs"],
                times_transformers=ms["theirs"] / ms["ours"],
                audio_seconds_per_second=audio,
                times_alone=audio / alone if alone else float("nan"),
                bare_ms=bare,
            )


if __name__ == "__main__":
    sys.exit(main())
