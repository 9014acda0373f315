"""Which kernel runs a linear operation of a decode step: a choice per operation, number of rows and weights; in JSON.

A file in `plans/` holds the choices for one GPU model, so that every worker with that GPU computes the same sums.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from higgs_core.kernels.linear import fused_mlp, gemv, skinny_gemm
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight

log = logging.getLogger(__name__)

ROW_BUCKETS = (1, 2, 4, 8, 16, 32)
NORM_LINEAR, LINEAR_ADD, NORM_MLP_ADD = "norm_linear", "linear_add", "norm_mlp_add"
FAMILIES: Mapping[str, ModuleType] = {"fused_mlp": fused_mlp, "gemv": gemv, "skinny_gemm": skinny_gemm}
"""Modules with MIN_ROWS, MAX_ROWS, CONFIGS and, for each operation that they have, a launcher `<operation>_triton`."""
_LIBRARY = "library"
_PLANS = Path(__file__).parent

Shape = tuple[int, int]  # a weight's, [out, in]


@dataclass(frozen=True, order=True)
class Key:
    """What is chosen for. rows: a bucket.  shapes: of the weights.  dtype, kind: names of the model's and the weights'
    dtypes."""

    operation: str
    rows: int
    shapes: tuple[Shape, ...]
    dtype: str
    kind: str

    @classmethod
    def of(cls, operation: str, rows: int, weights: Iterable[Weight], dtype: torch.dtype) -> Key | None:
        """Of a call with so many rows; None if there are more than in any bucket."""
        bucket = next((bucket for bucket in ROW_BUCKETS if bucket >= rows), None)
        if bucket is None:
            return None
        values = [weight.values if isinstance(weight, QuantizedWeight) else weight for weight in weights]
        shapes = tuple((value.shape[0], value.shape[1]) for value in values)
        return cls(operation, bucket, shapes, _name(dtype), _name(values[0].dtype))

    @property
    def kind_dtype(self) -> torch.dtype:
        """The weights' dtype."""
        found: torch.dtype = getattr(torch, self.kind)
        return found


@dataclass(frozen=True)
class Choice:
    """A family of kernels with a configuration for each of its launches; no family is the library."""

    family: str = _LIBRARY
    configs: tuple[Any, ...] = ()

    def covers(self, rows: int) -> bool:
        module = FAMILIES.get(self.family)
        return module is None or module.MIN_ROWS <= rows <= module.MAX_ROWS


LIBRARY = Choice()
Plan = Mapping[Key, Choice]


def choices(key: Key, family: str) -> list[Choice]:
    """Of a family, in the order in which ties are broken. For two launches every first beside the first second one,
    then every second beside the first first one."""
    module = FAMILIES[family]
    if not (module.MIN_ROWS <= key.rows <= module.MAX_ROWS and hasattr(module, f"{key.operation}_triton")):
        return []
    if module is fused_mlp:
        return [Choice(family, (each,)) for each in module.CONFIGS if each.fits(key.rows, key.kind_dtype)]
    launches = [_fitting(module, key.rows, shape[1], pair=key.operation == NORM_MLP_ADD) for shape in key.shapes[:1]]
    launches += [_fitting(module, key.rows, shape[1], pair=False) for shape in key.shapes[1:]]
    if not all(launches):
        return []
    if len(launches) == 1:
        return [Choice(family, (each,)) for each in launches[0]]
    firsts, seconds = launches
    pairs = [(first, seconds[0]) for first in firsts] + [(firsts[0], second) for second in seconds[1:]]
    return [Choice(family, pair) for pair in pairs]


def _fitting(module: ModuleType, rows: int, inner: int, *, pair: bool) -> list[Any]:
    if module is gemv:
        return [each for each in gemv.CONFIGS if each.fits(rows, inner, 2 if pair else 1)]
    return list(module.CONFIGS)


def plan_path(gpu: str) -> Path:
    """Of the file for a GPU that torch calls `gpu`; it may not exist."""
    return _PLANS / f"{re.sub('[^A-Za-z0-9]+', '-', gpu).strip('-')}.json"


def plan_entries(plan: Plan) -> list[dict[str, Any]]:
    """The "choices" of a GPU's file, which `python -m benchmarks.gpu` writes."""
    return [
        {
            "operation": key.operation,
            "rows": key.rows,
            "shapes": key.shapes,
            "dtype": key.dtype,
            "kind": key.kind,
            "family": plan[key].family,
            "configs": [_as_dict(config) for config in plan[key].configs],
        }
        for key in sorted(plan)
    ]


def read_plan(path: Path) -> dict[Key, Choice]:
    """The choices in a GPU's file. Those that this version does not know are left out, with one warning."""
    if not path.is_file():
        return {}
    plan, unknown = {}, 0
    try:
        for entry in json.loads(path.read_text())["choices"]:
            try:
                key, choice = _parsed(entry)
                plan[key] = choice
            except (KeyError, TypeError, ValueError):
                unknown += 1
    except (KeyError, TypeError, ValueError) as error:
        log.warning("The kernel plan %s cannot be read (%s); it is timed instead", path.name, type(error).__name__)
        return {}
    if unknown:
        log.warning("%d choices of the kernel plan %s are unknown; they are timed instead", unknown, path.name)
    return plan


def _parsed(entry: dict[str, Any]) -> tuple[Key, Choice]:
    """Raises KeyError, TypeError, ValueError."""
    shapes = tuple((int(outer), int(inner)) for outer, inner in entry["shapes"])
    key = Key(str(entry["operation"]), int(entry["rows"]), shapes, str(entry["dtype"]), str(entry["kind"]))
    if entry["family"] == _LIBRARY:
        return key, LIBRARY
    known = {json.dumps(_as_dict(config)): config for config in FAMILIES[entry["family"]].CONFIGS}
    choice = Choice(entry["family"], tuple(known[json.dumps(config)] for config in entry["configs"]))
    expected = choices(key, choice.family)
    if not expected or len(expected[0].configs) != len(choice.configs):
        raise ValueError("not a choice for this operation")
    return key, choice


def _as_dict(config: Any) -> dict[str, int]:
    return {each.name: getattr(config, each.name) for each in fields(config) if each.compare}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
