"""Split attention of one position over a long KV cache (flash decoding): the launch plan and the device functions.

Source: Dao et al., "Flash-Decoding for long-context inference", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.kernels.optional_triton import cdiv, jit, power_of_2, tl

_LOG2_E = 1.4426950408889634
_MAX_SPLITS = 64
_PROGRAMS_PER_PROCESSOR = 4
_MIN_DOT_ROWS = 16  # the fewest rows that `tl.dot` multiplies; a group of queries is padded to it
_SMALL_BATCH = 4  # rows up to which latency dominates, so blocks are small; above, memory bandwidth does


@dataclass(frozen=True)
class SplitPlan:
    """How a batch is split into programs. Depends on no tensor's values, so that a CUDA graph can capture the launch.

    splits: programs per row and KV head, a power of two.  block: positions that a program reads at once.
    group_block: query heads per KV head, padded.  scale: factor of the scores, log2(e) included.
    """

    splits: int
    block: int
    group_block: int
    scale: float

    @classmethod
    def choose(
        cls, rows: int, heads: int, kv_heads: int, size: int, max_kv_length: int, dtype: torch.dtype, processors: int
    ) -> SplitPlan:
        """Enough programs to fill the GPU, and none that never has positions to read."""
        block = 32 if rows <= _SMALL_BATCH or dtype.itemsize > 2 else 64
        wanted = max(processors * _PROGRAMS_PER_PROCESSOR // (rows * kv_heads), 1)
        splits = min(power_of_2(wanted + 1) // 2, power_of_2(cdiv(max_kv_length, block)), _MAX_SPLITS)
        group_block = max(power_of_2(heads // kv_heads), _MIN_DOT_ROWS)
        return cls(splits, block, group_block, size**-0.5 * _LOG2_E)


@jit
def span_of(length: tl.tensor, SPLITS: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    """Positions per split of a row, a multiple of BLOCK; the last splits may have none."""
    return tl.cdiv(tl.cdiv(length, SPLITS), BLOCK) * BLOCK


@jit
def attend_span(
    q: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    found: tl.tensor,
    SCALE: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Online softmax of queries q [G, D] over positions start..end of one head.

    Takes the state so far and returns the new one: the largest score `top` [G] (base 2), the sum of weights `total` [G]
    and the weighted sum of values `found` [G, D], all fp32.
    """
    index = tl.arange(0, SIZE)[None, :]
    for first in range(start, end, BLOCK):
        place = first + tl.arange(0, BLOCK)
        at = place[:, None] * SIZE + index
        k = tl.load(keys + at, mask=place[:, None] < end, other=0.0)
        v = tl.load(values + at, mask=place[:, None] < end, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * SCALE
        scores = tl.where(place[None, :] < end, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        shrink = tl.exp2(top - higher)
        weights = tl.exp2(scores - higher[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        found = found * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        top = higher
    return top, total, found


@jit
def merged(
    partial: tl.tensor, logsumexp: tl.tensor, active: tl.tensor, SPLITS: tl.constexpr, SIZE: tl.constexpr
) -> tl.tensor:
    """fp32 [D] of one head: the mean of the splits' results `partial` [SPLITS, D], weighted by 2 ** `logsumexp`.

    logsumexp: [SPLITS], each split's log2 of the sum of 2 ** score.  active: splits that have positions.
    """
    split = tl.arange(0, SPLITS)
    # .cg bypasses the L1 cache, as programs on other multiprocessors wrote these values.
    sums = tl.load(logsumexp + split, mask=split < active, other=float("-inf"), cache_modifier=".cg")
    at = split[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    parts = tl.load(partial + at, mask=(split < active)[:, None], other=0.0, cache_modifier=".cg")
    weights = tl.exp2(sums - tl.max(sums, axis=0))
    return tl.sum(parts * (weights / tl.sum(weights, axis=0))[:, None], axis=0)
