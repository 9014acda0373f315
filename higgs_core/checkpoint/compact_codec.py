"""A codec in little space, for one that the package brings along: most weights of its decoder are zero.

A compact folder holds `config.json`, as transformers writes it, and `weights.safetensors`. There a tensor NAME of the
codec's state dict is either

* dense: NAME, in its own shape, float16 or float32, or
* sparse: `NAME.indices` (int32 [n], rising; into the flattened tensor) and `NAME.values` (float16 or float32 [n]), or
  neither of the two where every element is zero. Its shape stands in the file's metadata, whose key `shapes` is a JSON
  object {NAME: [size, ...]} of every sparse tensor.

float16 is used where it loses nothing, so what is expanded equals what was written, bit by bit, in float32.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from higgs_core.errors import ModelLoadError

WEIGHTS = "weights.safetensors"
_CONFIG = "config.json"
_INDICES, _VALUES, _SHAPES = ".indices", ".values", "shapes"
_LARGEST_INDEX = torch.iinfo(torch.int32).max


def write_compact(state_dict: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write the tensors of a codec, any floating point [...] each, to a compact file; each in its shorter form.

    Weights that are float32 but were rounded to float16 before take half the space. Negative zeros, which multiplying
    by a mask leaves, count as non-zero; add 0.0 to the tensor to remove them.
    Raises ValueError for a tensor of another type, and for a name that this format gives to a part of another tensor.
    """
    tensors: dict[str, torch.Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in state_dict.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}; allowed is floating point.")
        full = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        flat = full.view(-1)
        indices = _bits(flat).nonzero()[:, 0]
        dense, values = _shortest(full), _shortest(flat[indices])
        if 4 * len(indices) + values.nbytes >= dense.nbytes or flat.numel() > _LARGEST_INDEX:
            tensors[name] = dense
            continue
        shapes[name] = list(full.shape)
        if len(indices):
            tensors |= {name + _INDICES: indices.to(torch.int32), name + _VALUES: values}
    taken = {name + part for name in shapes for part in (_INDICES, _VALUES)} & state_dict.keys()
    if taken:
        raise ValueError(f"{', '.join(sorted(taken))}: this format gives the name to a part of another tensor.")
    save_file(tensors, path, {"format": "pt", _SHAPES: json.dumps(shapes)})


def expand_codec(compact: Path, folder: Path) -> None:
    """Write a compact folder's codec to `folder` in transformers' format: config.json, model.safetensors in float32.

    The folder is made where it does not exist. Raises ModelLoadError when a file is missing, damaged or of another
    form.
    """
    try:
        with safe_open(compact / WEIGHTS, "pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a mapping
            shapes = json.loads((file.metadata() or {})[_SHAPES])
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(compact / _CONFIG, folder / _CONFIG)
        save_file(_expanded(stored, shapes), folder / "model.safetensors", {"format": "pt"})
    except FileNotFoundError:
        raise ModelLoadError(
            f"The built-in codec lacks {_CONFIG} or {WEIGHTS}; install the package, or get the repository, again."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelLoadError(f"The built-in codec cannot be unpacked ({type(error).__name__}).") from error


def _expanded(stored: dict[str, torch.Tensor], shapes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Every tensor in float32 and its own shape. Raises ModelLoadError, and what torch raises for an odd shape."""
    parts = {name + part for name in shapes for part in (_INDICES, _VALUES)}
    state = {name: tensor for name, tensor in stored.items() if name not in parts}
    for name, shape in shapes.items():
        if name in state:
            raise _damaged(name, "it is both dense and sparse")
        state[name] = torch.zeros(shape, dtype=torch.float32)
        indices, values = stored.get(name + _INDICES), stored.get(name + _VALUES)
        if indices is None and values is None:
            continue
        if indices is None or values is None or indices.shape != values.shape or indices.dim() != 1:
            raise _damaged(name, "its indices and values are not of one number")
        elements = state[name].view(-1)
        # Rising indices are each in range if the first and the last are.
        rising = indices.dtype == torch.int32 and bool((indices[1:] > indices[:-1]).all())
        if not rising or (len(indices) and not 0 <= int(indices[0]) <= int(indices[-1]) < len(elements)):
            raise _damaged(name, f"its indices are not int32, rising and below {len(elements)}")
        if not values.is_floating_point():
            raise _damaged(name, f"its values are {values.dtype}")
        elements[indices.long()] = values.float()
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise _damaged(name, f"it is {tensor.dtype}")
    return {name: tensor.float() for name, tensor in state.items()}


def _damaged(name: str, why: str) -> ModelLoadError:
    return ModelLoadError(f"The built-in codec is damaged at {name}: {why}.")


def _shortest(tensor: torch.Tensor) -> torch.Tensor:
    """In float16 if that loses no bit of any element."""
    half = tensor.half()
    return half if torch.equal(_bits(half.float()), _bits(tensor)) else tensor


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """float32 [...] as int32 [...], so that two zeros of different signs differ and a NaN equals itself."""
    return tensor.view(torch.int32)
