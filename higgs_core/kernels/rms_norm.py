"""RMSNorm, alone and with the residual addition before it: normalise in fp32, cast back, then times weight."""

from __future__ import annotations

from functools import cache

import torch

from higgs_core.kernels.optional_triton import jit, power_of_2, tl


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


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add x to the residual stream, then norm it. x, residual: [B, H]; `residual` is overwritten.

    Returns the normed [B, H] and the new residual [B, H].
    """
    residual.add_(x)
    return rms_norm(residual, weight, eps), residual


@jit
def _rms_norm_kernel(
    x: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    width: tl.tensor,
    eps: tl.tensor,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per row. With ADD, `residual` becomes residual + x and is what is normed."""
    dtype = out.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + row + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        stream = tl.load(residual + row + column, mask=inside, other=0.0).to(tl.float32)
        rounded = (value + stream).to(dtype)
        tl.store(residual + row + column, rounded, mask=inside)
        value = rounded.to(tl.float32)
    normed = value * tl.rsqrt(tl.sum(value * value, axis=0) / width + eps)
    tl.store(out + row + column, (normed.to(dtype).to(tl.float32) * scale).to(dtype), mask=inside)


def rms_norm_triton(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """As `rms_norm`."""
    return _launch(x, x, weight, eps, add=False)


def add_rms_norm_triton(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `add_rms_norm`, in one kernel."""
    return _launch(x, residual, weight, eps, add=True), residual


def _launch(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float, *, add: bool) -> torch.Tensor:
    rows, width = x.shape
    out = torch.empty_like(x)
    block = power_of_2(width)
    _rms_norm_kernel[(rows,)](
        x, residual, weight, out, width, eps, ADD=add, BLOCK=block, num_warps=min(max(block // 512, 1), 8)
    )
    return out
