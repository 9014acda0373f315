"""Sizes of a run on a GPU, and of the dry run of the same stages on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.models import FULL_SIZE, SMALLEST, Architecture


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. steps: per request to the engine; transformers gets fewer, as its steps are slow."""

    architecture: Architecture
    checked: Architecture
    device: torch.device
    dtype: torch.dtype
    batches: tuple[int, ...]
    context: int
    steps: int
    transformers_steps: int
    rounds: int
    reference_seconds: float
    full_codec: bool
    copied_bytes: int


def on_gpu() -> Plan:
    return Plan(
        architecture=FULL_SIZE,
        checked=Architecture("three full layers", 3072, 8192, 24, 8, 128, layers=3, vocabulary=2048),
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        batches=(1, 4, 8, 16, 32),
        context=1536,
        steps=400,
        transformers_steps=40,
        rounds=3,
        reference_seconds=15.0,
        full_codec=True,
        copied_bytes=2 << 30,
    )


def dry_run() -> Plan:
    return Plan(
        architecture=SMALLEST,
        checked=SMALLEST,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        batches=(1, 2),
        context=512,
        steps=30,
        transformers_steps=12,
        rounds=1,
        reference_seconds=1.0,
        full_codec=False,
        copied_bytes=1 << 20,
    )
