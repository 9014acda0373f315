"""SwiGLU over the fused gate-and-up projection: silu(gate) * up."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from higgs_core.kernels.optional_triton import cdiv, jit, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous

_BLOCK = 512


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate_up: [B, 2 I], the gate first. Returns [B, I]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


@jit
def silu_times(gate: tl.tensor, up: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """silu(gate) * up of `dtype` numbers given in fp32, rounded to `dtype` after each step as two torch calls would."""
    activated = (gate / (1.0 + tl.exp(-gate))).to(dtype)
    return (activated.to(tl.float32) * up).to(dtype)


@jit
def _swiglu_kernel(
    gate_up: tl.tensor, out: tl.tensor, width: tl.tensor, BLOCK: tl.constexpr, PDL: tl.constexpr
) -> None:
    """One program per row and block of columns."""
    wait_for_previous(PDL)
    let_next_start(PDL)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(gate_up + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, silu_times(gate, up, out.dtype.element_ty), mask=inside)


def swiglu_triton(gate_up: torch.Tensor, *, pdl: bool = False) -> torch.Tensor:
    """As `swiglu`. pdl: launch as a programmatic dependent of the kernel before."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    _swiglu_kernel[(rows, cdiv(width, _BLOCK))](
        gate_up, out, width, BLOCK=_BLOCK, PDL=pdl, num_warps=2, **launch_options(pdl=pdl)
    )
    return out
