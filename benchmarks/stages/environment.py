"""The card, its driver and its clocks, and the versions that torch was built with."""

from __future__ import annotations

import torch

from benchmarks.environment import card
from benchmarks.stage_context import StageContext


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
        nvidia_smi=told or "not there",
    )
