"""The card, its driver and its clocks, and the versions that torch was built with."""

from __future__ import annotations

import os
import shutil

import torch

from benchmarks.environment import card
from benchmarks.stage_context import StageContext


def _c_compiler() -> str | None:
    """As Triton looks for one."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")


def run(context: StageContext) -> None:
    """Raises RuntimeError where the run needs a GPU and torch sees none."""
    if context.settings.dry_run:
        context.add("environment", card="cpu", threads=torch.get_num_threads(), dry_run=True)
        return
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU")
    found = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    told = card(f"GPU-{found.uuid}") or card()
    context.add(
        "environment",
        card=found.name,
        capability=f"{found.major}.{found.minor}",
        processors=found.multi_processor_count,
        gigabytes=total / 1e9,
        free_gigabytes=free / 1e9,
        l2_megabytes=found.L2_cache_size / 1e6,
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        threads=torch.get_num_threads(),
        c_compiler=_c_compiler() or "absent: Triton cannot start a kernel without one",
        nvidia_smi=told or "not there",
    )
