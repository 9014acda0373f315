"""Sizes of a run on a GPU, and of the dry run of the same stages on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.models import FULL_SIZE, SMALLEST, Architecture

_LARGE_CARD = 40 << 30  # bytes; smaller ones get less context, so that 32 slots fit beside the weights


@dataclass(frozen=True)
class Plan:
    """Sizes of a run. Speech is counted in columns, 25 a second.

    architecture: of the speed.  checked: of the checks, small enough for a second copy in fp32.
    batches: the most telling first.  steps: a request's when steps are timed; transformers gets fewer, as its steps are
    slow.  streams: of the continuous arrivals.  traffic_seconds: a measurement of these.
    mean_columns, most_columns: of a request there.
    """

    architecture: Architecture
    checked: Architecture
    device: torch.device
    dtype: torch.dtype
    full_codec: bool
    context: int
    checked_rows: tuple[int, ...]
    batches: tuple[int, ...]
    steps: int
    rounds: int
    profiled_rows: tuple[int, ...]
    prefills: tuple[int, ...]
    text_tokens: int
    streams: tuple[int, ...]
    traffic_seconds: float
    mean_columns: float
    most_columns: int
    reference_seconds: float
    first_audio_rounds: int
    transformers_batches: tuple[int, ...]
    transformers_steps: int
    copied_bytes: int


def on_gpu() -> Plan:
    large = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > _LARGE_CARD
    return Plan(
        architecture=FULL_SIZE,
        checked=Architecture("three full layers", 3072, 8192, 24, 8, 128, layers=3, vocabulary=2048),
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        full_codec=True,
        context=2304 if large else 1536,
        checked_rows=(1, 2, 3, 5, 8, 32),
        batches=(1, 8, 32, 4, 16),
        steps=300,
        rounds=3,
        profiled_rows=(1, 8, 32),
        prefills=(64, 512, 2048),
        text_tokens=64,
        streams=(8, 32, 1),
        traffic_seconds=15.0,
        mean_columns=205.0,
        most_columns=500,
        reference_seconds=15.0,
        first_audio_rounds=7,
        transformers_batches=(1, 8),
        transformers_steps=40,
        copied_bytes=2 << 30,
    )


def dry_run() -> Plan:
    return Plan(
        architecture=SMALLEST,
        checked=SMALLEST,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        full_codec=False,
        context=512,
        checked_rows=(1, 2, 5, 8),
        batches=(1, 4),
        steps=30,
        rounds=1,
        profiled_rows=(1, 4),
        prefills=(64, 256),
        text_tokens=8,
        streams=(4, 1),
        traffic_seconds=1.0,
        mean_columns=128.0,
        most_columns=60,
        reference_seconds=1.0,
        first_audio_rounds=2,
        transformers_batches=(1, 2),
        transformers_steps=12,
        copied_bytes=1 << 20,
    )
