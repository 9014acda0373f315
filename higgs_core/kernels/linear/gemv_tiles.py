"""Device functions of the GEMV kernels: rows of x in registers, tiles of a weight, their products, what is stored.

One or two rows x [INNER] are held as a tuple of rows, each a tuple of blocks [BLOCK]; a tile of TILE output features is
a tuple of blocks [TILE, BLOCK]. Tuples grow by addition, as Triton has no unpacking. All loads of a tile are issued at
once, so that many are in flight. Sums are in fp32 and in a fixed order.
"""

from __future__ import annotations

from higgs_core.kernels.optional_triton import jit, tl
from higgs_core.kernels.swiglu import silu_times


@jit
def load_rows(
    x: tl.tensor, ROWS: tl.constexpr, INNER: tl.constexpr, BLOCK: tl.constexpr, CACHE: tl.constexpr
) -> tl.tensor:
    """x: [ROWS, INNER], contiguous.  CACHE: ".cg" to read what other programs of this launch have written."""
    rows: tl.tensor = ()
    for row in tl.static_range(ROWS):
        blocks: tl.tensor = ()
        for start in tl.static_range(0, INNER, BLOCK):
            place = start + tl.arange(0, BLOCK)
            block = tl.load(x + row * INNER + place, mask=place < INNER, other=0.0, cache_modifier=CACHE)
            blocks = blocks + (block,)  # noqa: RUF005
        rows = rows + (blocks,)  # noqa: RUF005
    return rows


@jit
def normalised(
    rows: tl.tensor, norm: tl.tensor, eps: tl.tensor, ROWS: tl.constexpr, INNER: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """RMSNorm of rows; norm: its weight, as the only row of `load_rows`. Rounded as `rms_norm` rounds."""
    result: tl.tensor = ()
    for row in tl.static_range(ROWS):
        blocks = rows[row]
        squares = tl.zeros([BLOCK], tl.float32)
        for number in tl.static_range(len(blocks)):
            value = blocks[number].to(tl.float32)
            squares += value * value
        scale = tl.rsqrt(tl.sum(squares, axis=0) / INNER + eps)
        scaled: tl.tensor = ()
        for number in tl.static_range(len(blocks)):
            dtype = blocks[number].dtype
            value = (blocks[number].to(tl.float32) * scale).to(dtype).to(tl.float32)
            value = (value * norm[0][number].to(tl.float32)).to(dtype)
            scaled = scaled + (value,)  # noqa: RUF005
        result = result + (scaled,)  # noqa: RUF005
    return result


@jit
def load_tile(
    weight: tl.tensor, feature: tl.tensor, outer: tl.tensor, INNER: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """The features `feature` [TILE] of weight [outer, INNER]; those from `outer` on are zeros."""
    line = weight + feature.to(tl.int64)[:, None] * INNER
    real = (feature < outer)[:, None]
    tile: tl.tensor = ()
    for start in tl.static_range(0, INNER, BLOCK):
        place = (start + tl.arange(0, BLOCK))[None, :]
        # Weights are read once per step, so they should be the first to leave the cache.
        block = tl.load(line + place, mask=real & (place < INNER), other=0.0, eviction_policy="evict_first")
        tile = tile + (block,)  # noqa: RUF005
    return tile


@jit
def products(rows: tl.tensor, tile: tl.tensor, scale: tl.tensor, row: tl.constexpr) -> tl.tensor:
    """Row `row` times each feature of a tile: fp32 [TILE]."""
    total = tl.zeros(tile[0].shape, tl.float32)
    for number in tl.static_range(len(tile)):
        total += tile[number].to(tl.float32) * rows[row][number].to(tl.float32)[None, :]
    return tl.sum(total, axis=1) * scale


@jit
def store_gated(
    rows: tl.tensor,
    gate: tl.tensor,
    up: tl.tensor,
    gate_scale: tl.tensor,
    up_scale: tl.tensor,
    out: tl.tensor,
    feature: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
) -> None:
    """out [ROWS, outer] at `feature` = swiglu of the products with the tiles gate and up."""
    dtype = out.dtype.element_ty
    for row in tl.static_range(ROWS):
        gate_sum = products(rows, gate, gate_scale, row).to(dtype).to(tl.float32)
        up_sum = products(rows, up, up_scale, row).to(dtype).to(tl.float32)
        tl.store(out + row * outer + feature, silu_times(gate_sum, up_sum, dtype), mask=feature < outer)


@jit
def add_to_residual(
    rows: tl.tensor,
    tile: tl.tensor,
    scale: tl.tensor,
    residual: tl.tensor,
    feature: tl.tensor,
    outer: tl.tensor,
    ROWS: tl.constexpr,
) -> None:
    """residual [ROWS, outer] at `feature` += the products with the tile, rounded before the addition."""
    dtype = residual.dtype.element_ty
    for row in tl.static_range(ROWS):
        at = residual + row * outer + feature
        before = tl.load(at, mask=feature < outer, other=0.0).to(tl.float32)
        product = products(rows, tile, scale, row).to(dtype).to(tl.float32)
        tl.store(at, (before + product).to(dtype), mask=feature < outer)
