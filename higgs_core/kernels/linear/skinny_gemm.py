"""Linear layers of 3 to 32 rows, limited by the bandwidth of reading the weights.

A library's matrix product is made for many rows: it has tiles for 64 or more and leaves most of a GPU idle where a
layer has few output features. Here a program computes a few features for all rows, and several programs may share the
inner dimension of the same features. The last of them to finish adds up what all have found, in a fixed order.

RMSNorm runs in a kernel of its own. Done by every program of the product it would read all rows again: for 8 rows of
the released qkv projection 16 MB from the L2 cache beside 31 MB of weights, for 32 rows 63 MB; one kernel reads and
writes 0.1 and 0.4 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from higgs_core.kernels.linear.quantized_weight import Weight
from higgs_core.kernels.linear.skinny_tiles import products, sums_of_splits
from higgs_core.kernels.linear.weight_tiles import feature_scales, prefetch_weight, values_and_scales
from higgs_core.kernels.optional_triton import cdiv, jit_for_any_alignment, power_of_2, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous
from higgs_core.kernels.rms_norm import rms_norm_triton
from higgs_core.kernels.swiglu import silu_times

MIN_ROWS, MAX_ROWS = 3, 32
_MIN_ROW_BLOCK = 8  # the fewest columns that tensor cores multiply; rows are padded to it
_MIN_TILE = 16  # the fewest features that tensor cores multiply
_WARP = 32
_MAX_NUMBERS_AT_ONCE = 64  # that a thread reads of other programs' sums; more would not fit into its registers
_MAX_REGISTERS = 224  # of a thread; where none are named, ptxas now and then spills for the sake of a few
_LINE_BYTES = 128  # of the L2 cache
_MAX_SPLIT_TILES = 4096  # tiles of a layer that is split; one with more fills any GPU as it is


@dataclass(frozen=True)
class SkinnyConfig:
    """tile: features of the weight per program, with SwiGLU half of them of the gate.  splits: programs that share the
    inner dimension of a tile.

    block: bytes of a row of x that a program reads at once, with as many weights of each feature; weights in 8 bits
    become as wide in its registers.  stages: blocks under way, with the one in use.  warps: of 32 threads.
    """

    tile: int
    splits: int
    block: int
    stages: int
    warps: int


CONFIGS = (
    SkinnyConfig(64, 4, 128, 5, 2),
    SkinnyConfig(64, 8, 128, 5, 2),
    SkinnyConfig(64, 1, 128, 5, 2),
    SkinnyConfig(128, 8, 128, 5, 2),
    SkinnyConfig(128, 4, 128, 5, 2),
    SkinnyConfig(128, 2, 128, 5, 2),
    SkinnyConfig(32, 1, 256, 4, 2),
    SkinnyConfig(16, 1, 256, 5, 1),
)
"""The configurations that are timed; which one is fastest depends on the GPU, the shape and the rows.

A large tile reads x less often, which costs up to half as much as the weights for 32 rows; a small one needs no splits.
Two warps and not four: a warp group would get the tensor cores' instructions for warp groups on Hopper and Blackwell,
for which 8-bit weights would have to go through shared memory twice.
"""


@jit_for_any_alignment("rows")  # one kernel for all numbers of rows that are padded alike
def _skinny_gemm_kernel(
    x: tl.tensor,
    weight: tl.tensor,
    scales: tl.tensor,
    residual: tl.tensor,
    out: tl.tensor,
    partials: tl.tensor,
    arrivals: tl.tensor,
    rows: tl.tensor,
    outer: tl.tensor,
    INNER: tl.constexpr,
    GATED: tl.constexpr,
    TILE: tl.constexpr,
    ROW_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    SPLITS: tl.constexpr,
    AT_ONCE: tl.constexpr,
    STAGES: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per split and TILE output features, for all rows.

    GATED: weight is [2 outer, INNER] and SwiGLU follows.  residual: added to the result unless None; may be `out`.
    partials: fp32 [tiles, SPLITS, 1 or with GATED 2, ROW_BLOCK, TILE].  arrivals: [tiles], zeros before and after.
    AT_ONCE: splits whose sums are read at once.  PREFETCH: lines of a feature that are, with PDL.
    """
    HALVES: tl.constexpr = 2 if GATED else 1
    dtype = out.dtype.element_ty
    split, tile = tl.program_id(0), tl.program_id(1)
    start = split * SPAN
    feature = tile * TILE + tl.arange(0, TILE)
    # A feature beyond the last reads the last one's weights, which needs no mask, and is not stored.
    first = weight + tl.minimum(feature, outer - 1).to(tl.int64) * INNER
    second = first + outer.to(tl.int64) * INNER
    if PDL:
        prefetch_weight(first + start, INNER - start, PREFETCH)
        if GATED:
            prefetch_weight(second + start, INNER - start, PREFETCH)
    wait_for_previous(PDL)
    let_next_start(PDL)
    EVEN: tl.constexpr = SPAN * SPLITS == INNER
    sums, others = products(
        x, rows, first, second, start, dtype, INNER, GATED, TILE, ROW_BLOCK, BLOCK, SPAN, EVEN, STAGES
    )

    row = tl.arange(0, ROW_BLOCK)[:, None]
    at = row * TILE + tl.arange(0, TILE)[None, :]
    last = True
    if SPLITS > 1:
        own = partials + (tile * SPLITS + split) * HALVES * ROW_BLOCK * TILE
        tl.store(own + at, sums, mask=row < rows)
        if GATED:
            tl.store(own + ROW_BLOCK * TILE + at, others, mask=row < rows)
        # The barrier and acq_rel order every thread's stores before the count, so that the program that counts last
        # sees the sums of all splits.
        tl.debug_barrier()
        last = tl.atomic_add(arrivals + tile, 1, sem="acq_rel", scope="gpu") == SPLITS - 1
        if last:
            tl.store(arrivals + tile, 0)
            sums, others = sums_of_splits(
                partials + tile * SPLITS * HALVES * ROW_BLOCK * TILE, rows, GATED, TILE, ROW_BLOCK, SPLITS, AT_ONCE
            )
    if last:
        result = (sums * feature_scales(scales, feature, outer)[None, :]).to(dtype)
        if GATED:
            up_scales = feature_scales(None if scales is None else scales + outer, feature, outer)
            up = (others * up_scales[None, :]).to(dtype)
            result = silu_times(result.to(tl.float32), up.to(tl.float32), dtype)
        place = row * outer + feature[None, :]
        inside = (row < rows) & (feature < outer)[None, :]
        if residual is not None:
            before = tl.load(residual + place, mask=inside, other=0.0)
            result = (before.to(tl.float32) + result.to(tl.float32)).to(dtype)
        tl.store(out + place, result, mask=inside)


@cache
def _arrivals(device: torch.device) -> torch.Tensor:
    """One counter per tile, shared by all launches on a device, which follow one another."""
    return torch.zeros(_MAX_SPLIT_TILES, dtype=torch.int32, device=device)


def _launch(
    x: torch.Tensor,
    weight: Weight,
    out: torch.Tensor,
    config: SkinnyConfig,
    *,
    residual: torch.Tensor | None = None,
    gated: bool = False,
    pdl: bool = False,
) -> torch.Tensor:
    """x: [B, in], weight: [out, in] or gated [2 out, in], out: [B, out], returned."""
    (rows, inner), outer = x.shape, out.shape[1]
    values, scales = values_and_scales(weight)
    block = config.block // x.element_size()
    tile = max(config.tile // 2, _MIN_TILE) if gated else config.tile
    tiles = cdiv(outer, tile)
    wanted = config.splits if tiles <= _MAX_SPLIT_TILES else 1
    span = cdiv(cdiv(inner, wanted), block) * block
    splits = cdiv(inner, span)
    row_block = max(power_of_2(rows), _MIN_ROW_BLOCK)
    numbers = row_block * tile * (2 if gated else 1)
    lines = min(block * config.stages, span) * values.element_size() // _LINE_BYTES
    _skinny_gemm_kernel[(splits, tiles)](
        x,
        values,
        scales,
        residual,
        out,
        out.new_empty(splits * tiles * numbers if splits > 1 else 0, dtype=torch.float32),
        _arrivals(out.device),
        rows,
        outer,
        INNER=inner,
        GATED=gated,
        TILE=tile,
        ROW_BLOCK=row_block,
        BLOCK=block,
        SPAN=span,
        SPLITS=splits,
        AT_ONCE=min(power_of_2(splits), max(_MAX_NUMBERS_AT_ONCE * config.warps * _WARP // numbers, 1)),
        STAGES=config.stages,
        PREFETCH=power_of_2(max(lines, 1) + 1) // 2,
        PDL=pdl,
        num_warps=config.warps,
        maxnreg=_MAX_REGISTERS,
        **launch_options(pdl=pdl),
    )
    return out


def norm_linear_triton(
    x: torch.Tensor, norm: torch.Tensor, eps: float, weight: Weight, config: SkinnyConfig, *, pdl: bool = False
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.norm_linear` for B <= 32; x and weight contiguous."""
    out = x.new_empty(x.shape[0], weight.shape[0])
    return _launch(rms_norm_triton(x, norm, eps, pdl=pdl), weight, out, config, pdl=pdl)


def linear_add_triton(
    x: torch.Tensor, weight: Weight, residual: torch.Tensor, config: SkinnyConfig, *, pdl: bool = False
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.linear_add` for B <= 32; x, weight and residual contiguous."""
    return _launch(x, weight, residual, config, residual=residual, pdl=pdl)


def norm_mlp_add_triton(
    residual: torch.Tensor,
    norm: torch.Tensor,
    eps: float,
    gate_up: Weight,
    down: Weight,
    configs: tuple[SkinnyConfig, SkinnyConfig],
    *,
    pdl: bool = False,
) -> torch.Tensor:
    """As `higgs_core.kernels.linear.torch_linear.norm_mlp_add` for B <= 32; residual and weights contiguous.

    configs: of the product with `gate_up` and of that with `down`.
    """
    normed = rms_norm_triton(residual, norm, eps, pdl=pdl)
    gated = _launch(
        normed, gate_up, residual.new_empty(residual.shape[0], down.shape[1]), configs[0], gated=True, pdl=pdl
    )
    return linear_add_triton(gated, down, residual, configs[1], pdl=pdl)
