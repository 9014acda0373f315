"""Linear layers of one or two rows, alone or followed by SwiGLU, limited by the bandwidth of reading the weights.

A library's matrix product assigns many output features to a program, so that a small layer leaves most of a large GPU
idle. Here a program computes a few features and its warps share the inner dimension. Sums are in fp32 and in a fixed
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.kernels.optional_triton import cdiv, jit, tl
from higgs_core.kernels.swiglu import silu_times

MAX_ROWS = 2


@dataclass(frozen=True)
class GemvConfig:
    """tile: output features per program.  block: inner elements that it reads at once.  warps: of 32 threads."""

    tile: int
    block: int
    warps: int


CONFIGS = (GemvConfig(1, 1024, 4), GemvConfig(2, 1024, 4), GemvConfig(4, 1024, 4), GemvConfig(2, 512, 2))
"""The configurations that are timed; which one is fastest depends on the GPU and the shape.

256 inner elements per warp are 16 bytes per thread and load, and all warps lie along the inner dimension, so that no
warp needs another's part of x.
"""


@jit
def _dot(
    x: tl.tensor,
    weight: tl.tensor,
    feature: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Products of x's one or two rows [INNER] with the features `feature` [TILE] of weight: two times fp32 [TILE]."""
    line = weight + feature.to(tl.int64)[:, None] * INNER
    real = (feature < outer)[:, None]
    first = tl.zeros([TILE, BLOCK], tl.float32)
    second = tl.zeros([TILE, BLOCK], tl.float32)
    for start in tl.static_range(0, INNER, BLOCK):  # unrolled, so that many loads are in flight at once
        place = start + tl.arange(0, BLOCK)
        inside = place < INNER
        # Weights are read once per step, so they should be the first to leave the cache.
        w = tl.load(line + place[None, :], mask=real & inside[None, :], other=0.0, eviction_policy="evict_first")
        w = w.to(tl.float32)
        first += w * tl.load(x + place, mask=inside, other=0.0).to(tl.float32)[None, :]
        if ROWS == 2:
            second += w * tl.load(x + INNER + place, mask=inside, other=0.0).to(tl.float32)[None, :]
    return tl.sum(first, axis=1), tl.sum(second, axis=1)


@jit
def _gemv_kernel(
    x: tl.tensor,
    weight: tl.tensor,
    out: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per TILE output features, for all rows."""
    dtype = out.dtype.element_ty
    feature = tl.program_id(0) * TILE + tl.arange(0, TILE)
    first, second = _dot(x, weight, feature, outer, ROWS, INNER, TILE, BLOCK)
    tl.store(out + feature, first.to(dtype), mask=feature < outer)
    if ROWS == 2:
        tl.store(out + outer + feature, second.to(dtype), mask=feature < outer)


@jit
def _gated_gemv_kernel(
    x: tl.tensor,
    gate_up: tl.tensor,
    out: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per TILE features of the gate and the same features of the up projection, for all rows."""
    dtype = out.dtype.element_ty
    feature = tl.program_id(0) * TILE + tl.arange(0, TILE)
    up_half = gate_up + outer.to(tl.int64) * INNER
    gate, second_gate = _dot(x, gate_up, feature, outer, ROWS, INNER, TILE, BLOCK)
    up, second_up = _dot(x, up_half, feature, outer, ROWS, INNER, TILE, BLOCK)
    product = silu_times(gate.to(dtype).to(tl.float32), up.to(dtype).to(tl.float32), dtype)
    tl.store(out + feature, product, mask=feature < outer)
    if ROWS == 2:
        product = silu_times(second_gate.to(dtype).to(tl.float32), second_up.to(dtype).to(tl.float32), dtype)
        tl.store(out + outer + feature, product, mask=feature < outer)


def linear_triton(x: torch.Tensor, weight: torch.Tensor, config: GemvConfig) -> torch.Tensor:
    """As `higgs_core.kernels.linear.linear` for B <= 2; x and weight contiguous."""
    outer, inner = weight.shape
    out = x.new_empty(x.shape[0], outer)
    _gemv_kernel[(cdiv(outer, config.tile),)](
        x,
        weight,
        out,
        outer,
        ROWS=x.shape[0],
        INNER=inner,
        TILE=config.tile,
        BLOCK=config.block,
        num_warps=config.warps,
    )
    return out


def linear_swiglu_triton(x: torch.Tensor, gate_up: torch.Tensor, config: GemvConfig) -> torch.Tensor:
    """swiglu(linear(x, gate_up)) for B <= 2; x and gate_up contiguous. x: [B, H], gate_up: [2 I, H]. Returns [B, I]."""
    outer, inner = gate_up.shape[0] // 2, gate_up.shape[1]
    out = x.new_empty(x.shape[0], outer)
    _gated_gemv_kernel[(cdiv(outer, config.tile),)](
        x,
        gate_up,
        out,
        outer,
        ROWS=x.shape[0],
        INNER=inner,
        TILE=config.tile,
        BLOCK=config.block,
        num_warps=config.warps,
    )
    return out
