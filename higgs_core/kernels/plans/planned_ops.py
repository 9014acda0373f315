"""The linear operations of a decode step, each call by the kernel that a plan names for its rows and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from higgs_core.kernels.plans.linear_plan import (
    FAMILIES,
    LIBRARY,
    LINEAR_ADD,
    NORM_LINEAR,
    NORM_MLP_ADD,
    Choice,
    Key,
    Plan,
)

Operation = Callable[..., torch.Tensor]

WEIGHTS = {NORM_LINEAR: (3,), LINEAR_ADD: (1,), NORM_MLP_ADD: (3, 4)}
"""Operation -> which of its arguments are weights. The first argument has the rows."""


class PlannedOp:
    """One of the operations `norm_linear`, `linear_add` and `norm_mlp_add` of `higgs_core.kernels.ops.Ops`."""

    def __init__(self, operation: str, library: Operation, plan: Plan, *, pdl: bool = False) -> None:
        """library: runs what the plan has no kernel for.  pdl: launch kernels as dependents of the one before."""
        self.operation, self.plan = operation, plan
        self._library, self._pdl = library, pdl

    def __call__(self, *arguments: Any) -> torch.Tensor:
        rows, dtype = arguments[0].shape[0], arguments[0].dtype
        key = Key.of(self.operation, rows, (arguments[number] for number in WEIGHTS[self.operation]), dtype)
        choice = self.plan.get(key, LIBRARY) if key is not None else LIBRARY
        if choice is LIBRARY or not choice.covers(rows):
            return self._library(*arguments)
        return launcher(self.operation, choice, pdl=self._pdl)(*arguments)


def launcher(operation: str, choice: Choice, *, pdl: bool = False) -> Operation:
    """The operation by the kernels of a choice that is not the library."""
    launch = getattr(FAMILIES[choice.family], f"{operation}_triton")
    config = choice.configs if len(choice.configs) > 1 else choice.configs[0]

    def run(*arguments: Any) -> torch.Tensor:
        result: torch.Tensor = launch(*arguments, config, pdl=pdl)
        return result

    return run
