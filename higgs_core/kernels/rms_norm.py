"""RMSNorm: normalise in fp32, cast back, then times weight."""

from __future__ import annotations

from functools import cache

import torch

from higgs_core.kernels.optional_triton import jit, power_of_2, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous


@cache
def _constants(width: int, eps: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    # As tensors: with a Python number as an operand a torch call takes twice as long.
    numbers = ((width * eps) ** 0.5, width**-0.5)
    floor, scale = (torch.full((), number, dtype=torch.float32, device=device) for number in numbers)
    return floor, scale


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x: [B, H], weight: [H], both in the model's dtype. Returns [B, H]."""
    # sqrt(mean(x²) + eps) as hypot(|x|, sqrt(H eps)) / sqrt(H): four calls on a CPU where F.rms_norm makes eight.
    floor, scale = _constants(x.shape[-1], eps, x.device)
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    normed = torch.div(x, size.hypot_(floor).mul_(scale))
    return normed.to(weight.dtype).mul_(weight)


@jit
def _rms_norm_kernel(
    x: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per row."""
    dtype = out.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    inside = column < width
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    wait_for_previous(PDL)
    let_next_start(PDL)
    value = tl.load(x + row + column, mask=inside, other=0.0).to(tl.float32)
    normed = value * tl.rsqrt(tl.sum(value * value, axis=0) / width + eps)
    tl.store(out + row + column, (normed.to(dtype).to(tl.float32) * scale).to(dtype), mask=inside)


def rms_norm_triton(x: torch.Tensor, weight: torch.Tensor, eps: float, *, pdl: bool = False) -> torch.Tensor:
    """As `rms_norm`. pdl: launch as a programmatic dependent of the kernel before, which did not write the weight."""
    rows, width = x.shape
    out = torch.empty_like(x)
    block = power_of_2(width)
    warps = min(max(block // 512, 1), 8)
    _rms_norm_kernel[(rows,)](
        x, weight, out, width, eps, BLOCK=block, PDL=pdl, num_warps=warps, **launch_options(pdl=pdl)
    )
    return out
