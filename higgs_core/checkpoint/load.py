"""Loads a language model in Boson's or transformers' format into the fused weight layout and checks that it fits."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from higgs_core.checkpoint.safetensors_reader import StoredTensor, index_folder, read_into
from higgs_core.config import ModelConfig, read_config
from higgs_core.errors import ModelLoadError
from higgs_core.kernels.linear.quantized_weight import Weight, split_rows
from higgs_core.model.weights import DecoderWeights, allocate, destinations

log = logging.getLogger(__name__)

_PREFIXES = {
    "audio_codebook_embeddings.": "embed_audio_tokens.",
    "audio_decoder_proj.": "",
    "model.embed_audio_tokens.embed_audio_tokens.": "embed_audio_tokens.",
    "model.": "",
}
_PAIRED = {
    "embedding_frozen.weight": 0,
    "embedding_trainable.weight": 1,
    "linear_frozen.weight": 0,
    "linear_trainable.weight": 1,
}
_SHOWN_NAMES = 12


def load_model(
    folder: Path, device: torch.device, dtype: torch.dtype | None, *, kind: str | None = None, progress: bool = False
) -> tuple[ModelConfig, DecoderWeights]:
    """Config and weights of a local checkpoint.

    dtype: None takes the checkpoint's own on a GPU and float32 on a CPU.
    kind: "int8" or "fp8" quantises the layers' matrices while they are read; None leaves them in `dtype`.
    Raises ModelLoadError listing the tensors that are missing or mis-shaped.
    """
    started = time.perf_counter()
    config = load_config(folder)
    stored = _by_canonical_name(index_folder(folder))
    dtype = dtype or _default_dtype(config, device)
    weights = allocate(config, device, dtype, text_head="text_lm_head.weight" in stored, kind=kind)
    allocated = time.perf_counter()
    pairs = _match(stored, destinations(weights, config))
    total = sum(source.nbytes for source, _ in pairs)
    with tqdm(total=total, unit="B", unit_scale=True, desc="Loading weights", disable=not progress) as bar:
        read_into(pairs, on_bytes=bar.update)
    log.info(
        "Loaded %.2f GB of weights as %s%s on %s, %.2f GB there: allocation %.2f s, reading %.2f s",
        total / 1e9,
        str(dtype).removeprefix("torch."),
        f" with {kind} matrices" if kind is not None else "",
        device,
        weights.nbytes / 1e9,
        allocated - started,
        time.perf_counter() - allocated,
    )
    return config, weights


def load_config(folder: Path) -> ModelConfig:
    """Raises ModelLoadError when config.json is absent, damaged or of another model."""
    try:
        raw = json.loads((folder / "config.json").read_text())
        generation_file = folder / "generation_config.json"
        generation = json.loads(generation_file.read_text()) if generation_file.is_file() else None
        return read_config(raw, generation)
    except FileNotFoundError:
        raise ModelLoadError("The checkpoint's folder has no config.json; is it a complete download?") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"config.json is damaged or lacks a field ({error}).") from error


def _default_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    stored = config.transformers.dtype
    if isinstance(stored, str):
        stored = getattr(torch, stored)
    return torch.float32 if device.type == "cpu" else stored or torch.bfloat16


def _by_canonical_name(stored: Mapping[str, StoredTensor]) -> dict[str, list[StoredTensor]]:
    """Tensors under the names of `weights.destinations`; the halves of a frozen/trainable pair in row order."""
    table: dict[str, dict[int, StoredTensor]] = {}
    for name, tensor in stored.items():
        canonical = name
        for prefix, replacement in _PREFIXES.items():
            if name.startswith(prefix):
                canonical = replacement + name[len(prefix) :]
                break
        half = 0
        for suffix, position in _PAIRED.items():
            if canonical.endswith(suffix):
                canonical, half = canonical.removesuffix(suffix) + "weight", position
        table.setdefault(canonical, {})[half] = tensor
    return {name: [halves[half] for half in sorted(halves)] for name, halves in table.items()}


def _match(stored: Mapping[str, list[StoredTensor]], wanted: Mapping[str, Weight]) -> list[tuple[StoredTensor, Weight]]:
    missing = [name for name in wanted if name not in stored]
    misshaped: list[str] = []
    pairs: list[tuple[StoredTensor, Weight]] = []
    for name, destination in wanted.items():
        parts = stored.get(name, [])
        rows = sum(part.shape[0] for part in parts if part.shape)
        fits = all(part.shape[1:] == destination.shape[1:] for part in parts) and rows == destination.shape[0]
        if parts and not fits:
            found = " and ".join(str(list(part.shape)) for part in parts)
            misshaped.append(f"{name} is {found} instead of {list(destination.shape)}")
        elif parts:
            pairs += zip(parts, split_rows(destination, [part.shape[0] for part in parts]), strict=True)
    if missing or misshaped:
        complaints = [*(_listed("missing tensors", missing)), *(_listed("mis-shaped tensors", misshaped))]
        raise ModelLoadError(f"The checkpoint does not fit Higgs Audio v2: {'; '.join(complaints)}.")
    unused = len(stored.keys() - wanted.keys())
    if unused:
        log.info("%d tensors of the checkpoint are not used by this engine", unused)
    return pairs


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return [f"{what}: {', '.join(names[:_SHOWN_NAMES])}{more}"] if names else []
