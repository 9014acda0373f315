"""Folders that look like checkpoints, small ones to be found and whole ones to boot from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def write_files(folder: Path, *names: str) -> Path:
    """A folder with these files; weights are a whole file of two numbers, an index names the shards beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file({name: torch.zeros(2)}, folder / name)
        elif name == INDEX:
            shards = [other for other in names if other.startswith("model-")]
            (folder / name).write_text(json.dumps({"weight_map": {shard: shard for shard in shards}}))
        else:
            (folder / name).write_text("{}")
    return folder


def write_shards(folder: Path, count: int = 3) -> Mapping[str, bytes]:
    """Write the single file's tensors again as shards and an index beside it; returns the shards."""
    tensors = load_file(folder / SINGLE)
    names = [f"model-{at + 1:05}-of-{count:05}.safetensors" for at in range(count)]
    homes = {tensor: names[at % count] for at, tensor in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: value for key, value in tensors.items() if homes[key] == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"weight_map": homes}))
    return {name: (folder / name).read_bytes() for name in names}


def snapshot(cache: Path, repository: str, revision: str, *names: str, main: bool = False) -> Path:
    """Lay a snapshot into a cache, RunPod's or the hub's: they have the same layout."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    if main:
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(revision + "\n")
    return write_files(folder / "snapshots" / revision, *names)
