"""Split attention of one position over a long KV cache (flash decoding): the launch plan and the device functions.

The positions of all rows are cut into spans of the same number of blocks, so that programs take equally long however
ragged the batch is. The cut is made on the device from the rows' lengths; the launch depends on none of them.

Sources: Dao et al., "Flash-Decoding for long-context inference", 2023; for even work in a ragged batch Ye et al.,
"FlashInfer", 2025, which plans it on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from higgs_core.kernels.optional_triton import jit, power_of_2, tl

_LOG2_E = 1.4426950408889634
_MIN_DOT_ROWS = 16  # the fewest rows that `tl.dot` multiplies; a group of queries is padded to it
_LARGE_SHARED_MEMORY = (80, 90, 100, 103)  # capabilities with 160 KiB and more a multiprocessor; others have 100
_RESIDENT = 4  # programs that a multiprocessor has registers and shared memory for
_SMALL_BATCH = 4  # rows up to which latency decides; above, memory bandwidth does
_BLOCK = 32
SPLITS_MERGED_AT_ONCE = 16


@dataclass(frozen=True)
class SplitPlan:
    """How a batch is split into programs. Depends on no tensor's values, so that a CUDA graph can capture the launch.

    programs: per KV head, more than there are rows.  block: positions that a program reads at once.
    stages: blocks that are under way at once, the one that is being used among them.
    group_block: query heads per KV head, padded.  scale: factor of the scores, log2(e) included.
    """

    programs: int
    block: int
    stages: int
    group_block: int
    scale: float

    @classmethod
    def choose(cls, rows: int, heads: int, kv_heads: int, size: int, processors: int, capability: int) -> SplitPlan:
        """Enough programs to fill the GPU. processors: its multiprocessors.  capability: 90 is 9.0."""
        # A small batch runs at once; of a large one twice as many programs, so that those which end early are replaced.
        at_once = processors * _RESIDENT // kv_heads
        wanted = max(at_once if rows <= _SMALL_BATCH else 2 * at_once, 1)
        stages = 3 if capability in _LARGE_SHARED_MEMORY else 2  # both leave room for _RESIDENT programs
        group_block = max(power_of_2(heads // kv_heads), _MIN_DOT_ROWS)
        # Every row may leave a part of its last span empty, hence one program more for each.
        return cls(rows + wanted, _BLOCK, stages, group_block, size**-0.5 * _LOG2_E)


@jit
def work_of(
    program: tl.tensor,
    programs: tl.tensor,
    positions: tl.tensor,
    active: tl.tensor,
    rows: tl.tensor,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """What one of a KV head's programs does: row, the program of the row's first split, positions per split.

    Row b has positions[b] + 1 positions if active[b], else one. Where there is nothing to do, the row is not below
    `rows`. ROWS: `rows` rounded up to a power of two.
    """
    row = tl.arange(0, ROWS)
    inside = row < rows
    last = tl.load(positions + row, mask=inside, other=0).to(tl.int32)
    speaking = tl.load(active + row, mask=inside, other=0) != 0
    blocks = tl.where(inside, tl.where(speaking, last // BLOCK + 1, 1), 0)
    # With n rows the sum of ceil(blocks / span) is below sum(blocks) / span + n, so all splits find a program.
    span = tl.cdiv(tl.sum(blocks, axis=0), programs - rows)
    stop = tl.cumsum(tl.cdiv(blocks, span), axis=0)
    before = stop <= program
    return tl.sum(before.to(tl.int32), axis=0), tl.max(tl.where(before, stop, 0), axis=0), span * BLOCK


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
    partials: tl.tensor,
    logsumexp: tl.tensor,
    splits: tl.tensor,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
    AT_ONCE: tl.constexpr,
) -> tl.tensor:
    """fp32 [GROUP_BLOCK, D], all heads of a group: the splits' results, weighted by 2 ** `logsumexp`.

    partials: [splits, GROUP, D].  logsumexp: [splits, GROUP], log2 of the sum of 2 ** score.
    """
    member = tl.arange(0, GROUP_BLOCK)
    place = member[None, :, None] * SIZE + tl.arange(0, SIZE)[None, None, :]
    top = tl.full([GROUP_BLOCK], -1e30, tl.float32)  # below every score, and no NaN in the padding
    total = tl.zeros([GROUP_BLOCK], tl.float32)
    found = tl.zeros([GROUP_BLOCK, SIZE], tl.float32)
    for first in tl.range(0, splits, AT_ONCE, num_stages=1):
        split = first + tl.arange(0, AT_ONCE)
        real = (split < splits)[:, None] & (member < GROUP)[None, :]
        # .cg bypasses the L1 cache, as programs on other multiprocessors wrote these values.
        sums = tl.load(
            logsumexp + split[:, None] * GROUP + member[None, :],
            mask=real,
            other=float("-inf"),
            cache_modifier=".cg",
        )
        at = partials + split[:, None, None] * (GROUP * SIZE) + place
        parts = tl.load(at, mask=real[:, :, None], other=0.0, cache_modifier=".cg")
        higher = tl.maximum(top, tl.max(sums, axis=0))
        shrink = tl.exp2(top - higher)
        weights = tl.exp2(sums - higher[None, :])
        total = total * shrink + tl.sum(weights, axis=0)
        found = found * shrink[:, None] + tl.sum(parts * weights[:, :, None], axis=0)
        top = higher
    return found / total[:, None]
