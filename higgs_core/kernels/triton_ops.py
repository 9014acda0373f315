"""The operations of a decode step by Triton kernels, put together for a device."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels import rms_norm, swiglu
from higgs_core.kernels.attention.rope_attention import TritonRopeAttention
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.ops import Ops, Tensor, torch_ops
from higgs_core.kernels.plans.linear_plan import LINEAR_ADD, NORM_LINEAR, NORM_MLP_ADD, Plan
from higgs_core.kernels.plans.planned_ops import Operation, PlannedOp
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.step_tail import TritonStepTail

_MAX_ROWS = 1024  # of a batch; sizes a small buffer


def triton_ops(
    config: ModelConfig,
    device: torch.device,
    plan: Plan,
    *,
    processors: int,
    capability: int,
    pdl: bool = False,
    off: Collection[str] = (),
) -> Ops:
    """Linear operations as in `plan`, those that it does not name by the library.

    processors: multiprocessors.  capability: 90 is 9.0.  pdl: launch kernels as dependents of the one before.
    off: operations that stay torch functions.
    """
    plain = torch_ops()
    ops = replace(
        plain,
        rms_norm=partial(rms_norm.rms_norm_triton, pdl=True) if pdl else rms_norm.rms_norm_triton,
        swiglu=partial(swiglu.swiglu_triton, pdl=True) if pdl else swiglu.swiglu_triton,
        embed_columns=partial(embed_columns_triton, pdl=True) if pdl else embed_columns_triton,
        rope_attention=TritonRopeAttention(
            _MAX_ROWS, config.num_kv_heads, processors, device, capability=capability, pdl=pdl
        ),
        sampler=partial(TritonSampler, pdl=True) if pdl else TritonSampler,
        step_tail=partial(TritonStepTail, pdl=True) if pdl else TritonStepTail,
    )
    torch_functions: dict[str, Any] = {name: getattr(plain, name) for name in off}
    ops = replace(ops, **torch_functions)
    library = libraries(ops.rms_norm, ops.swiglu)
    planned: dict[str, Any] = {name: PlannedOp(name, library[name], plan, pdl=pdl) for name in library}
    return replace(ops, **planned)


def libraries(
    norm: Callable[[Tensor, Tensor, float], Tensor], gated: Callable[[Tensor], Tensor]
) -> dict[str, Operation]:
    """The linear operations in several launches each, with the library's matrix product."""
    linear = torch_ops().linear
    return {
        NORM_LINEAR: lambda x, weight, eps, out: linear(norm(x, weight, eps), out),
        LINEAR_ADD: lambda x, weight, residual: residual.add_(linear(x, weight)),
        NORM_MLP_ADD: lambda residual, weight, eps, gate_up, down: residual.add_(
            linear(gated(linear(norm(residual, weight, eps), gate_up)), down)
        ),
    }
