"""Every kernel of the released model compiled for this GPU, by all cores; else the engine would do it one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch

from benchmarks.stage_context import StageContext


def run(context: StageContext) -> None:
    if context.plan.device.type != "cuda":
        context.add("left out", stage="compile", reason="a CPU runs every operation in torch")
        return
    major, minor = torch.cuda.get_device_capability()
    command = [sys.executable, "-m", "higgs_core.kernels.precompile", "--capability", str(10 * major + minor)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"compiling failed: {done.stderr.strip()[-400:]}")
    context.add(
        "compile", capability=f"{major}.{minor}", processes=os.cpu_count(), seconds=time.perf_counter() - started
    )
