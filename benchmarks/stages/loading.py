"""Seconds to load the full-size checkpoint from disk, part by part, with its files in the page cache and without."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.engine_probe import free_memory
from benchmarks.making_probe import noted_making
from benchmarks.models import random_codec, random_model, save
from benchmarks.stage_context import StageContext
from higgs_core import HiggsAudioEngine
from higgs_core.config import ModelConfig
from higgs_core.model.weights import DecoderWeights, destinations

_SPARE_BYTES = 2 << 30  # on the disk, and for the codec
_SUMMED = 1 << 24  # elements at once, as torch widens all of them first


def run(context: StageContext) -> None:
    """Writes random weights to a temporary folder first; they leave the device before anything is loaded."""
    plan = context.plan
    with tempfile.TemporaryDirectory(prefix="higgs-benchmark-") as scratch:
        model, codec = Path(scratch) / "model", Path(scratch) / "codec"
        config, weights = random_model(plan.architecture, plan.device, plan.dtype)
        free = shutil.disk_usage(scratch).free
        if free < weights.nbytes + _SPARE_BYTES:
            reason = f"{free / 1e9:.0f} GB of disk for {weights.nbytes / 1e9:.0f} GB of weights; TMPDIR may name more"
            context.add("left out", stage="loading", reason=reason)
            return
        started = time.perf_counter()
        nbytes = save(plan.architecture, config, weights, model)
        sums = _sums(weights, config)
        context.add("checkpoint", gigabytes=nbytes / 1e9, writing_seconds=time.perf_counter() - started)
        del weights
        has_codec = _save_codec(context, codec)
        for state in ("cold", "warm"):
            free_memory(plan.device)
            if state == "cold":
                _drop_from_page_cache(Path(scratch))
            _load(context, state, model, codec if has_codec else None, nbytes, sums)


def _load(context: StageContext, state: str, model: Path, codec: Path | None, nbytes: int, sums: list[int]) -> None:
    plan = context.plan
    started = time.perf_counter()
    with noted_making() as making:
        engine = HiggsAudioEngine.from_pretrained(
            str(model),
            None if codec is None else str(codec),
            device=plan.device,
            dtype=plan.dtype,
            max_batch_size=min(context.settings.slots, 8),
            max_context=plan.context,
        )
        with engine:
            loaded = time.perf_counter()
            engine.warm_up()
            ended = time.perf_counter()
            same = _sums(engine._parts.weights, engine._parts.config) == sums
    parts = making.seconds
    capture, reading = parts.get("capture", 0.0), parts.get("reading", 0.0)
    context.add(
        "loading",
        files=state,
        total_seconds=ended - started,
        allocation=parts.get("allocation", 0.0),
        reading=reading,
        gigabytes_per_second=nbytes / 1e9 / reading,
        codec=parts.get("codec", 0.0),
        self_check=making.self_check_seconds,
        tuning=parts.get("tuning", 0.0),
        capture=capture,
        warm_up=ended - loaded - capture,
        passed=same,
    )


def _save_codec(context: StageContext, folder: Path) -> bool:
    try:
        codec = random_codec(context.plan.device, full_size=context.plan.full_codec)
        codec._model.save_pretrained(folder)
    except Exception as error:  # the model can be loaded without
        context.add("left out", stage="loading", reason=f"no codec: {type(error).__name__}: {error}"[:300])
        return False
    return True


def _sums(weights: DecoderWeights, config: ModelConfig) -> list[int]:
    """A sum over the bits of every tensor, by which they are compared without being kept."""
    pieces = (tensor.view(torch.int16).flatten().split(_SUMMED) for tensor in destinations(weights, config).values())
    return [sum(int(piece.sum(dtype=torch.int64)) for piece in tensor) for tensor in pieces]


def _drop_from_page_cache(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
