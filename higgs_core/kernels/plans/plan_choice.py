"""Makes the plan of a model's linear operations: from the GPU's file, else by timing, and each choice is checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.checks.self_check import Case, checked
from higgs_core.kernels.checks.self_check_cases import Cases
from higgs_core.kernels.ops import Ops
from higgs_core.kernels.plans.linear_plan import (
    FAMILIES,
    LIBRARY,
    LINEAR_ADD,
    NORM_LINEAR,
    NORM_MLP_ADD,
    ROW_BUCKETS,
    Choice,
    Key,
    Plan,
    choices,
)
from higgs_core.kernels.plans.planned_ops import Operation, launcher
from higgs_core.kernels.plans.tuning import Tuner, worth_timing

log = logging.getLogger(__name__)


def keys_of(config: ModelConfig, dtype: torch.dtype, kind: torch.dtype | None) -> list[Key]:
    """What a decode step's calls look up. kind: of the layers' quantised weights; the audio head is never quantised."""
    hidden, inner = config.hidden_size, config.intermediate_size
    own, layers = (str(each).removeprefix("torch.") for each in (dtype, kind or dtype))
    operations = (
        (NORM_LINEAR, ((config.qkv_size, hidden),), layers),
        (NORM_LINEAR, ((config.num_codebooks * config.codebook_size, hidden),), own),
        (LINEAR_ADD, ((hidden, config.num_heads * config.head_dim),), layers),
        (NORM_MLP_ADD, ((2 * inner, hidden), (hidden, inner)), layers),
    )
    keys = [Key(name, rows, shapes, own, each) for name, shapes, each in operations for rows in ROW_BUCKETS]
    return list(dict.fromkeys(keys))


class PlanMaker:
    """A family that is wrong in one case runs nothing of that operation any more."""

    def __init__(self, cases: Cases, reference: Ops, libraries: Mapping[str, Operation], tuner: Tuner) -> None:
        """reference: what kernels are compared with.  libraries: what they are timed against, by operation."""
        self._cases, self._reference, self._libraries, self._tuner = cases, reference, libraries, tuner
        self._off: set[tuple[str, str]] = set()

    def make(self, keys: list[Key], known: Plan) -> dict[Key, Choice]:
        """known: the choices for this GPU that were measured once."""
        return {key: self._choose(key, known.get(key)) for key in keys}

    def _choose(self, key: Key, known: Choice | None) -> Choice:
        for choice in self._in_order(key, known):
            if choice == LIBRARY or self._agrees(key, choice):
                return choice
        return LIBRARY

    def _in_order(self, key: Key, known: Choice | None) -> Iterator[Choice]:
        if known is None and worth_timing(key):
            yield from self._tuner.ranked(key, self._libraries[key.operation])
            return
        if known is not None:
            yield known
        for family in FAMILIES:  # not timed, or the known choice disagrees on this device
            yield from choices(key, family)[:1]

    def _agrees(self, key: Key, choice: Choice) -> bool:
        name = f"{choice.family} {key.operation}"
        if (choice.family, key.operation) in self._off:
            return False
        kernel, reference = launcher(key.operation, choice), getattr(self._reference, key.operation)
        if checked(name, kernel, reference, self._cases_of(key, choice)) is kernel:
            return True
        self._off.add((choice.family, key.operation))
        return False

    def _cases_of(self, key: Key, choice: Choice) -> Iterator[Case]:
        """With the most and the fewest rows for which the key is looked up and the kernel can run."""
        kind = None if key.kind == key.dtype else key.kind_dtype
        below = [bucket for bucket in ROW_BUCKETS if bucket < key.rows]
        fewest = max(below[-1] + 1 if below else 1, FAMILIES[choice.family].MIN_ROWS)
        rows = sorted({fewest, key.rows})
        if key.operation == NORM_MLP_ADD:
            return self._cases.norm_mlp_add(kind, rows)
        ((outer, inner),) = key.shapes
        if key.operation == LINEAR_ADD:
            return self._cases.linear_add(outer, inner, kind, rows)
        return self._cases.norm_linear(outer, kind, rows)
