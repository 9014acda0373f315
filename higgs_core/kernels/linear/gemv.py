"""Linear layers of one or two rows, limited by the bandwidth of reading the weights: with the RMSNorm before them, with
the residual addition after them, or the gate-and-up projection with both its RMSNorm and SwiGLU.

A library's matrix product assigns many output features to a program, so that a small layer leaves most of a large GPU
idle. Here a program computes a few features at a time and its warps share the inner dimension. Its rows stay in
registers, and the weights of its next features are loaded while it multiplies those of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.kernels.linear.gemv_tiles import (
    add_to_residual,
    load_rows,
    load_tile,
    normalised,
    products,
    store_gated,
)
from higgs_core.kernels.linear.quantized_weight import Weight
from higgs_core.kernels.linear.weight_tiles import feature_scales, values_and_scales
from higgs_core.kernels.optional_triton import cdiv, jit, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous

MIN_ROWS, MAX_ROWS = 1, 2
_THREADS_PER_WARP = 32
_MAX_INNER_PER_THREAD = 32  # elements of a row that a thread holds in registers
_MAX_WEIGHTS_PER_THREAD = 96  # of a tile, times rows


@dataclass(frozen=True)
class GemvConfig:
    """tile: output features that a program computes at a time.  tiles: how often it does so.

    block: inner elements per load of all threads.  warps: of 32 threads.
    """

    tile: int
    tiles: int
    block: int
    warps: int

    def fits(self, rows: int, inner: int, weight_tiles: int = 1) -> bool:
        """Whether a thread's registers hold its part of so many rows of `inner` elements and of the tiles."""
        held = cdiv(inner, self.block) * self.block // (self.warps * _THREADS_PER_WARP)
        return held <= _MAX_INNER_PER_THREAD and held * self.tile * weight_tiles * rows <= _MAX_WEIGHTS_PER_THREAD


CONFIGS = (
    GemvConfig(tile=2, tiles=1, block=1024, warps=4),
    GemvConfig(tile=1, tiles=1, block=1024, warps=4),
    GemvConfig(tile=4, tiles=1, block=1024, warps=4),
    GemvConfig(tile=2, tiles=2, block=1024, warps=4),
    GemvConfig(tile=1, tiles=4, block=1024, warps=4),
    GemvConfig(tile=2, tiles=2, block=2048, warps=8),
    GemvConfig(tile=1, tiles=1, block=2048, warps=8),
)
"""The configurations that are timed; which one is fastest depends on the GPU and the shape.

256 inner elements per warp are 16 bytes of bf16 per thread and load.
"""


@jit
def _norm_linear_kernel(
    x: tl.tensor,
    norm: tl.tensor,
    weight: tl.tensor,
    scales: tl.tensor,
    out: tl.tensor,
    outer: tl.tensor,
    eps: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per TILES tiles, for all rows."""
    dtype = out.dtype.element_ty
    feature = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tile = load_tile(weight, feature, outer, INNER, BLOCK)
    scale = feature_scales(scales, feature, outer)
    norm_weight = load_rows(norm, 1, INNER, BLOCK, "")
    wait_for_previous(PDL)
    let_next_start(PDL)
    rows = normalised(load_rows(x, ROWS, INNER, BLOCK, ""), norm_weight, eps, ROWS, INNER, BLOCK)
    for _ in range(TILES - 1):
        following = feature + tl.num_programs(0) * TILE
        next_tile = load_tile(weight, following, outer, INNER, BLOCK)
        next_scale = feature_scales(scales, following, outer)
        for row in tl.static_range(ROWS):
            product = products(rows, tile, scale, row)
            tl.store(out + row * outer + feature, product.to(dtype), mask=feature < outer)
        feature, tile, scale = following, next_tile, next_scale
    for row in tl.static_range(ROWS):
        tl.store(out + row * outer + feature, products(rows, tile, scale, row).to(dtype), mask=feature < outer)


@jit
def _linear_add_kernel(
    x: tl.tensor,
    weight: tl.tensor,
    scales: tl.tensor,
    residual: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per TILES tiles, for all rows."""
    feature = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tile = load_tile(weight, feature, outer, INNER, BLOCK)
    scale = feature_scales(scales, feature, outer)
    wait_for_previous(PDL)
    let_next_start(PDL)
    rows = load_rows(x, ROWS, INNER, BLOCK, "")
    for _ in range(TILES - 1):
        following = feature + tl.num_programs(0) * TILE
        next_tile = load_tile(weight, following, outer, INNER, BLOCK)
        next_scale = feature_scales(scales, following, outer)
        add_to_residual(rows, tile, scale, residual, feature, outer, ROWS)
        feature, tile, scale = following, next_tile, next_scale
    add_to_residual(rows, tile, scale, residual, feature, outer, ROWS)


@jit
def _norm_gate_up_kernel(
    x: tl.tensor,
    norm: tl.tensor,
    gate_up: tl.tensor,
    scales: tl.tensor,
    out: tl.tensor,
    outer: tl.tensor,
    eps: tl.tensor,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per TILES tiles of the gate and the same features of the up projection, for all rows."""
    feature = tl.program_id(0) * TILE + tl.arange(0, TILE)
    up_half = gate_up + outer.to(tl.int64) * INNER
    gate = load_tile(gate_up, feature, outer, INNER, BLOCK)
    up = load_tile(up_half, feature, outer, INNER, BLOCK)
    gate_scale = feature_scales(scales, feature, outer)
    up_scale = feature_scales(scales, feature + outer, 2 * outer)
    norm_weight = load_rows(norm, 1, INNER, BLOCK, "")
    wait_for_previous(PDL)
    let_next_start(PDL)
    rows = normalised(load_rows(x, ROWS, INNER, BLOCK, ""), norm_weight, eps, ROWS, INNER, BLOCK)
    for _ in range(TILES - 1):
        following = feature + tl.num_programs(0) * TILE
        next_gate = load_tile(gate_up, following, outer, INNER, BLOCK)
        next_up = load_tile(up_half, following, outer, INNER, BLOCK)
        next_gate_scale = feature_scales(scales, following, outer)
        next_up_scale = feature_scales(scales, following + outer, 2 * outer)
        store_gated(rows, gate, up, gate_scale, up_scale, out, feature, outer, ROWS)
        feature, gate, up = following, next_gate, next_up
        gate_scale, up_scale = next_gate_scale, next_up_scale
    store_gated(rows, gate, up, gate_scale, up_scale, out, feature, outer, ROWS)


def norm_linear_triton(
    x: torch.Tensor, norm: torch.Tensor, eps: float, weight: Weight, config: GemvConfig, *, pdl: bool = False
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.norm_linear` for one or two rows; everything contiguous."""
    (outer, inner), (values, scales) = weight.shape, values_and_scales(weight)
    out = x.new_empty(x.shape[0], outer)
    _norm_linear_kernel[(_programs(outer, config),)](
        x,
        norm,
        values,
        scales,
        out,
        outer,
        eps,
        ROWS=x.shape[0],
        INNER=inner,
        TILE=config.tile,
        TILES=config.tiles,
        BLOCK=config.block,
        PDL=pdl,
        num_warps=config.warps,
        **launch_options(pdl=pdl),
    )
    return out


def linear_add_triton(
    x: torch.Tensor, weight: Weight, residual: torch.Tensor, config: GemvConfig, *, pdl: bool = False
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.linear_add` for one or two rows; everything contiguous."""
    (outer, inner), (values, scales) = weight.shape, values_and_scales(weight)
    _linear_add_kernel[(_programs(outer, config),)](
        x,
        values,
        scales,
        residual,
        outer,
        ROWS=x.shape[0],
        INNER=inner,
        TILE=config.tile,
        TILES=config.tiles,
        BLOCK=config.block,
        PDL=pdl,
        num_warps=config.warps,
        **launch_options(pdl=pdl),
    )
    return residual


def norm_gate_up_triton(
    x: torch.Tensor, norm: torch.Tensor, eps: float, gate_up: Weight, config: GemvConfig, *, pdl: bool = False
) -> torch.Tensor:
    """swiglu(norm_linear(x, norm, eps, gate_up)) for one or two rows. x: [B, H], gate_up: [2 I, H]. Returns [B, I]."""
    (both, inner), (values, scales) = gate_up.shape, values_and_scales(gate_up)
    out = x.new_empty(x.shape[0], both // 2)
    _norm_gate_up_kernel[(_programs(both // 2, config),)](
        x,
        norm,
        values,
        scales,
        out,
        both // 2,
        eps,
        ROWS=x.shape[0],
        INNER=inner,
        TILE=config.tile,
        TILES=config.tiles,
        BLOCK=config.block,
        PDL=pdl,
        num_warps=config.warps,
        **launch_options(pdl=pdl),
    )
    return out


def norm_mlp_add_triton(
    residual: torch.Tensor,
    norm: torch.Tensor,
    eps: float,
    gate_up: Weight,
    down: Weight,
    configs: tuple[GemvConfig, GemvConfig],
    *,
    pdl: bool = False,
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.norm_mlp_add` for one or two rows, in two launches.

    configs: of each launch.
    """
    gated = norm_gate_up_triton(residual, norm, eps, gate_up, configs[0], pdl=pdl)
    return linear_add_triton(gated, down, residual, configs[1], pdl=pdl)


def _programs(features: int, config: GemvConfig) -> int:
    return cdiv(features, config.tile * config.tiles)
