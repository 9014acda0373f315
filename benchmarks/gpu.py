"""`python -m benchmarks.gpu`: correctness on this GPU, and the speed of the full-size model.

Needs only torch, transformers and numpy. Checks come first, then speed; every figure is written to the JSON file at
once, and stages that would start too late are reported as left out. `--dry-run-cpu` runs the same
stages on a small model in seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from benchmarks.gpu_plan import dry_run, on_gpu
from benchmarks.gpu_stages import Run
from benchmarks.report import Report, say

_LAST_START = 0.9
"""Share of the time after which no stage begins."""


def _run(run: Run, only: set[str], last_start: float) -> int:
    """Every stage that is wanted and begins in time; returns how many failed. One failure does not stop the others."""
    failures = 0
    stages = run.stages()
    while True:
        started, name = time.perf_counter(), "engine"
        try:
            name, stage = next(stages)
            if (only and name not in only) or started > last_start:
                run.report.add("left out", stage=name)
                continue
            stage()
        except StopIteration:
            return failures
        except Exception as error:
            failures += 1
            run.report.add("failed", stage=name, error=f"{type(error).__name__}: {error}"[:500])
        run.report.add("stage", stage=name, seconds=time.perf_counter() - started)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when every check held and no stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/benchmark-gpu.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="stages that would begin later are left out")
    parser.add_argument("--dry-run-cpu", action="store_true", help="the same stages on a small model, on the CPU")
    parser.add_argument("--only", default="", help="stages to run, by name, with commas between")
    chosen = parser.parse_args(arguments)
    if not chosen.dry_run_cpu and not torch.cuda.is_available():
        say("torch sees no GPU; --dry-run-cpu runs the same stages on a small model")
        return 2
    plan = dry_run() if chosen.dry_run_cpu else on_gpu()
    report = Report(chosen.output, plan.device)
    began = time.perf_counter()
    only = {name.strip() for name in chosen.only.split(",")} - {""}
    failures = _run(Run(plan, report), only, began + 60 * chosen.minutes * _LAST_START)
    wrong = [row for row in report.rows if row.get("passed") is False]
    say("\n" + report.table())
    say(f"\n{len(wrong)} checks failed, {failures} stages failed, {time.perf_counter() - began:.0f} s")
    return 1 if wrong or failures else 0


if __name__ == "__main__":
    sys.exit(main())
