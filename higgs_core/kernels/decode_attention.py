"""Attention of one new position a row over the KV cache: grouped queries, ragged lengths, cost follows the length.

On a device one kernel attends to the positions of a row in splits and a second, small one merges what they found.
"""

from __future__ import annotations

from functools import cache
from math import inf

import torch
import torch.nn.functional as F

from higgs_core.kernels.flash_decode import SplitPlan, attend_span, merged, span_of
from higgs_core.kernels.lang import jit, tl


@cache
def _mask_constants(
    max_kv_length: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    zero, minus_infinity = torch.zeros((), dtype=dtype, device=device), torch.full((), -inf, dtype=dtype, device=device)
    return torch.arange(max_kv_length, device=device), zero, minus_infinity


def attention_mask(lengths: torch.Tensor, max_kv_length: int, kv_heads: int, dtype: torch.dtype) -> torch.Tensor:
    """What `decode_attention` adds to the scores, worth computing once a step instead of once a layer.

    lengths: int64 [B].  Returns [B, Hkv, 1, max_kv_length]: 0 where a row may look, else -inf.
    """
    places, zero, minus_infinity = _mask_constants(max_kv_length, dtype, lengths.device)
    mask = torch.where(places < lengths.unsqueeze(1), zero, minus_infinity)
    return mask[:, None, None].expand(-1, kv_heads, -1, -1).contiguous()


def decode_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    max_kv_length: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of row b's query over positions 0..lengths[b] of slot b.

    q: [B, Hq, D].  k_cache, v_cache: [S, Hkv, C, D], slots and heads contiguous.  lengths: int64 [B], >= 1.
    max_kv_length: lengths <= max_kv_length <= C.  mask: `attention_mask` of the same, if at hand.  Returns [B, Hq D].
    """
    (rows, heads, size), (_, kv_heads, context, _) = q.shape, k_cache.shape
    if mask is None:
        mask = attention_mask(lengths, max_kv_length, kv_heads, q.dtype)
    if q.dtype != torch.float32:
        # Queries of a group as positions of one head: no enable_gqa, which would copy the cache.
        sizes, strides = (rows, kv_heads, max_kv_length, size), k_cache.stride()
        k, v = k_cache.as_strided(sizes, strides), v_cache.as_strided(sizes, strides)
        grouped = q.view(rows, kv_heads, heads // kv_heads, size)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(rows, heads * size)
    # In fp32 plain batched products use two threads better. as_strided: one call where slices and a reshape take four.
    pairs, step = rows * kv_heads, context * size
    scores = torch.baddbmm(
        mask.view(pairs, 1, max_kv_length),
        q.reshape(pairs, heads // kv_heads, size),
        k_cache.as_strided((pairs, size, max_kv_length), (step, 1, size)),
        alpha=size**-0.5,
    )
    v = v_cache.as_strided((pairs, max_kv_length, size), (step, size, 1))
    return torch.bmm(torch.softmax(scores, -1), v).view(rows, heads * size)


@jit
def _split_kernel(
    q: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    lengths: tl.tensor,
    partial: tl.tensor,
    level: tl.tensor,
    out: tl.tensor,
    slot_stride: tl.tensor,
    head_stride: tl.tensor,
    SCALE: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    SIZE: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program a split, KV head and row; splits beyond the row's length end at once."""
    split, kv_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    length = tl.load(lengths + row).to(tl.int32)
    span = span_of(length, SPLITS, BLOCK)
    start = split * span
    if start < length:
        member = tl.arange(0, GROUP_BLOCK)
        index = tl.arange(0, SIZE)[None, :]
        head = (row * tl.num_programs(1) + kv_head) * GROUP + member
        real = (member < GROUP)[:, None]
        queries = tl.load(q + head[:, None] * SIZE + index, mask=real, other=0.0)
        offset = row * slot_stride + kv_head * head_stride
        top, total, found = attend_span(
            queries,
            k_cache + offset,
            v_cache + offset,
            start,
            tl.minimum(start + span, length),
            tl.full([GROUP_BLOCK], float("-inf"), tl.float32),
            tl.zeros([GROUP_BLOCK], tl.float32),
            tl.zeros([GROUP_BLOCK, SIZE], tl.float32),
            SCALE,
            SIZE,
            BLOCK,
        )
        found = found / total[:, None]
        if SPLITS == 1:
            tl.store(out + head[:, None] * SIZE + index, found.to(out.dtype.element_ty), mask=real)
        else:
            tl.store(partial + (head[:, None] * SPLITS + split) * SIZE + index, found, mask=real)
            tl.store(level + head * SPLITS + split, top + tl.log2(total), mask=member < GROUP)


@jit
def _merge_kernel(
    partial: tl.tensor,
    level: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    SIZE: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program a query head and row."""
    row = tl.program_id(1).to(tl.int64)
    head = row * tl.num_programs(0) + tl.program_id(0)
    length = tl.load(lengths + row).to(tl.int32)
    active = tl.cdiv(length, span_of(length, SPLITS, BLOCK))
    result = merged(partial + head * SPLITS * SIZE, level + head * SPLITS, active, SPLITS, SIZE)
    tl.store(out + head * SIZE + tl.arange(0, SIZE), result.to(out.dtype.element_ty))


def decode_attention_triton(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    max_kv_length: int,
    mask: torch.Tensor | None = None,
    *,
    processors: int,
) -> torch.Tensor:
    """As `decode_attention`; D must be a power of two. processors: multiprocessors to fill. `mask` is not needed."""
    (rows, heads, size), kv_heads = q.shape, k_cache.shape[1]
    plan = SplitPlan.choose(rows, heads, kv_heads, size, max_kv_length, q.dtype, processors)
    q = q.contiguous()
    out = q.new_empty(rows, heads * size)
    partial = q.new_empty(rows, heads, plan.splits, size, dtype=torch.float32)
    level = q.new_empty(rows, heads, plan.splits, dtype=torch.float32)
    _split_kernel[(plan.splits, kv_heads, rows)](
        q,
        k_cache,
        v_cache,
        lengths,
        partial,
        level,
        out,
        k_cache.stride(0),
        k_cache.stride(1),
        SCALE=plan.scale,
        GROUP=plan.group,
        GROUP_BLOCK=plan.group_block,
        SIZE=size,
        SPLITS=plan.splits,
        BLOCK=plan.block,
        num_warps=4,
        num_stages=3,
    )
    if plan.splits > 1:
        _merge_kernel[(heads, rows)](
            partial, level, lengths, out, SIZE=size, SPLITS=plan.splits, BLOCK=plan.block, num_warps=4
        )
    return out
