"""Device functions for the products of a few rows with a tile of a weight, whose inner dimension programs may share."""

from __future__ import annotations

from higgs_core.kernels.linear.weight_tiles import weight_tile
from higgs_core.kernels.optional_triton import jit, tl


@jit
def products(
    x: tl.tensor,
    rows: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    start: tl.tensor,
    dtype: tl.constexpr,
    INNER: tl.constexpr,
    PAIR: tl.constexpr,
    TILE: tl.constexpr,
    ROW_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    SPAN: tl.constexpr,
    EVEN: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """Sums over the inner elements start .. start + SPAN - 1: two times fp32 [ROW_BLOCK, TILE].

    first, second: pointers [TILE] to the features' weights.  The second sums stay 0 without PAIR.
    """
    row = tl.arange(0, ROW_BLOCK)
    real = (row < rows)[:, None]
    line = x + row[:, None] * INNER
    sums = tl.zeros([TILE, ROW_BLOCK], tl.float32)
    others = tl.zeros([TILE, ROW_BLOCK], tl.float32)
    for step in tl.range(SPAN // BLOCK, num_stages=STAGES):
        place = start + step * BLOCK + tl.arange(0, BLOCK)[None, :]
        inside = None if EVEN else place < INNER
        block = tl.trans(tl.load(line + place, mask=real if EVEN else real & inside, other=0.0))
        sums = tl.dot(weight_tile(first[:, None] + place, inside, dtype), block, sums, input_precision="ieee")
        if PAIR:
            others = tl.dot(weight_tile(second[:, None] + place, inside, dtype), block, others, input_precision="ieee")
    return tl.trans(sums), tl.trans(others)


@jit
def sums_of_splits(
    partials: tl.tensor,
    rows: tl.tensor,
    PAIR: tl.constexpr,
    TILE: tl.constexpr,
    ROW_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    AT_ONCE: tl.constexpr,
) -> tl.tensor:
    """What all programs of a tile have found, added up in the order of the splits: two times fp32 [ROW_BLOCK, TILE].

    partials: fp32 [SPLITS, 1 or with PAIR 2, ROW_BLOCK, TILE].  AT_ONCE: splits that are read at once.
    """
    SIZE: tl.constexpr = ROW_BLOCK * TILE
    HALVES: tl.constexpr = 2 if PAIR else 1
    row = tl.arange(0, ROW_BLOCK)[:, None]
    at = row * TILE + tl.arange(0, TILE)[None, :]
    sums = tl.zeros([ROW_BLOCK, TILE], tl.float32)
    others = tl.zeros([ROW_BLOCK, TILE], tl.float32)
    for some in range(0, SPLITS, AT_ONCE):
        for each in tl.static_range(AT_ONCE):
            # .cg bypasses the L1 cache, as programs on other multiprocessors wrote these values.
            found = partials + (some + each) * HALVES * SIZE + at
            real = (row < rows) & (some + each < SPLITS)
            sums += tl.load(found, mask=real, other=0.0, cache_modifier=".cg")
            if PAIR:
                others += tl.load(found + SIZE, mask=real, other=0.0, cache_modifier=".cg")
    return sums, others
