"""Split attention of one position over a long cache: how the work is cut, and what a program does with its part.

Dao et al., "Flash-Decoding for long-context inference", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.kernels.lang import cdiv, jit, power_of_2, tl

_LOG2_E = 1.4426950408889634
_MAX_SPLITS = 64
_PROGRAMS_PER_PROCESSOR = 4
_SMALLEST_DOT = 16  # rows that a tensor core multiplies at once; a group of queries is padded to it
_FEW_ROWS = 4  # up to here latency decides, so programs are small; above, bytes in flight


@dataclass(frozen=True)
class SplitPlan:
    """How a batch is cut into programs. All of it is fixed when a kernel is launched, so that a graph may hold it.

    splits: programs a row and KV head, a power of two.  block: positions that a program reads at once.
    group: queries a KV head, group_block with padding.  scale: of the scores, in powers of two.
    """

    splits: int
    block: int
    group: int
    group_block: int
    scale: float

    @classmethod
    def choose(
        cls, rows: int, heads: int, kv_heads: int, size: int, max_kv_length: int, dtype: torch.dtype, processors: int
    ) -> SplitPlan:
        """Enough programs to fill the card, none that could only be idle."""
        block = 32 if rows <= _FEW_ROWS or dtype.itemsize > 2 else 64
        wanted = max(processors * _PROGRAMS_PER_PROCESSOR // (rows * kv_heads), 1)
        splits = min(power_of_2(wanted + 1) // 2, power_of_2(cdiv(max_kv_length, block)), _MAX_SPLITS)
        group = heads // kv_heads
        return cls(splits, block, group, max(power_of_2(group), _SMALLEST_DOT), size**-0.5 * _LOG2_E)


@jit
def span_of(length: tl.tensor, SPLITS: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    """Positions that each split of a row takes, whole blocks; the last splits may be left with none."""
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

    Carries on from, and returns, the largest score `top` [G] (in powers of two), the sum of weights `total` [G] and the
    weighted sum of values `found` [G, D], all fp32.
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
    partial: tl.tensor, level: tl.tensor, active: tl.tensor, SPLITS: tl.constexpr, SIZE: tl.constexpr
) -> tl.tensor:
    """fp32 [D] of one head: the splits' results `partial` [SPLITS, D] weighted by 2 ** `level` [SPLITS]."""
    split = tl.arange(0, SPLITS)
    # .cg: past the L1 cache, as another processor may have written these a moment ago.
    levels = tl.load(level + split, mask=split < active, other=float("-inf"), cache_modifier=".cg")
    at = split[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    parts = tl.load(partial + at, mask=(split < active)[:, None], other=0.0, cache_modifier=".cg")
    weights = tl.exp2(levels - tl.max(levels, axis=0))
    return tl.sum(parts * (weights / tl.sum(weights, axis=0))[:, None], axis=0)
