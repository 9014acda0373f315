"""RoPE, KV write and attention of one decode step's layer: fused q-k-v rows in, attention output out.

The Triton kernel does in one launch what takes three otherwise: rotation and KV write, split attention, merge of the
splits. The new key and value are not read back from the cache: the split that their position falls into takes them from
registers. The last split of a row's KV head to finish merges the results of all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from higgs_core.kernels.attention.decode_attention import attention_mask, decode_attention
from higgs_core.kernels.attention.flash_decode import SPLITS_MERGED_AT_ONCE, SplitPlan, attend_span, merged, work_of
from higgs_core.kernels.attention.rope_kv import RopeTable, rope_kv_write, rotated, rotation
from higgs_core.kernels.optional_triton import jit, power_of_2, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous

LayerAttention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(qkv [B, (Hq + 2 Hkv) D], k_cache [S, Hkv, C, D], v_cache [S, Hkv, C, D]) -> attention output [B, Hq D].

Writes the new keys and values into the caches. qkv must be contiguous.
"""


def rope_attention(
    table: RopeTable,
    positions: torch.Tensor,
    active: torch.Tensor,
    max_kv_length: int,
    kv_heads: int,
) -> LayerAttention:
    """The attention of one decode step, as a function to be called once per layer.

    positions: int64 [B], where row b's key and value go.  active: bool [B].  An active row b attends to positions
    0..positions[b] of slot b, which are at most max_kv_length; an inactive one to position 0 only.
    """
    lengths = (positions + 1).where(active, 1)
    mask = attention_mask(lengths, max_kv_length, kv_heads, table.cos.dtype)
    factors = rotation(table.cos[positions], table.sin[positions])

    def attend(qkv: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor) -> torch.Tensor:
        query = rope_kv_write(qkv, factors, k_cache, v_cache, positions)
        return decode_attention(query, k_cache, v_cache, mask)

    return attend


@jit
def _rope_attention_kernel(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    positions: tl.tensor,
    active_rows: tl.tensor,
    partials: tl.tensor,
    logsumexp: tl.tensor,
    arrivals: tl.tensor,
    out: tl.tensor,
    slot_stride: tl.tensor,
    head_stride: tl.tensor,
    rows: tl.tensor,
    SCALE: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    MERGE_BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """Programs: as many as the plan has, for each KV head. `arrivals` [B, Hkv] holds zeros before and after."""
    # Behind the wait comes even what earlier steps wrote, positions and cache: where steps are not captured, nothing
    # guarantees that a kernel of an earlier step has ended.
    wait_for_previous(PDL)
    let_next_start(PDL)
    GROUP: tl.constexpr = HEADS // KV_HEADS
    dtype = out.dtype.element_ty
    program, kv_head = tl.program_id(0), tl.program_id(1)
    programs = tl.num_programs(0)
    chosen, first, span = work_of(program, programs, positions, active_rows, rows, ROWS, BLOCK)
    if chosen < rows:
        row = chosen.to(tl.int64)
        position = tl.load(positions + row).to(tl.int32)
        length = tl.where(tl.load(active_rows + row) != 0, position + 1, 1)
        start = (program - first) * span
        end = tl.minimum(start + span, length)

        # Every program rotates the key itself: that costs a few hundred bytes, less than waiting for another program.
        one = tl.zeros([1, 1], tl.int32)
        index = tl.arange(0, SIZE)[None, :]
        source = qkv + row * (HEADS + 2 * KV_HEADS) * SIZE
        cosine, sine = cos + position * SIZE, sin + position * SIZE
        key = rotated(source + (HEADS + kv_head + one) * SIZE, cosine, sine, one == 0, SIZE).to(dtype)
        value = tl.load(source + (HEADS + KV_HEADS + kv_head) * SIZE + index)
        offset = row * slot_stride + kv_head * head_stride
        if start == 0:
            tl.store(k_cache + offset + position * SIZE + index, key)
            tl.store(v_cache + offset + position * SIZE + index, value)

        member = tl.arange(0, GROUP_BLOCK)
        real = (member < GROUP)[:, None]
        head = kv_head * GROUP + member
        queries = rotated(source + head[:, None] * SIZE, cosine, sine, real, SIZE).to(dtype)
        # The online softmax starts with the new position; from the cache only the positions before it are read.
        holds_new = (position >= start) & (position < end)
        score = tl.sum(queries.to(tl.float32) * key.to(tl.float32), axis=1) * SCALE
        top, total, found = attend_span(
            queries,
            k_cache + offset,
            v_cache + offset,
            start,
            tl.minimum(end, position),
            tl.where(holds_new, score, float("-inf")),
            tl.where(holds_new, tl.full([GROUP_BLOCK], 1.0, tl.float32), 0.0),
            tl.where(holds_new, tl.broadcast_to(value.to(tl.float32), [GROUP_BLOCK, SIZE]), 0.0),
            SCALE,
            SIZE,
            BLOCK,
        )
        found = found / total[:, None]
        splits = tl.cdiv(length, span)
        target = out + row * HEADS * SIZE + kv_head * GROUP * SIZE
        if splits == 1:
            tl.store(target + member[:, None] * SIZE + index, found.to(dtype), mask=real)
        else:
            slot = kv_head.to(tl.int64) * programs + program  # of the results of splits, [Hkv, programs, GROUP]
            tl.store(partials + (slot * GROUP + member[:, None]) * SIZE + index, found, mask=real)
            tl.store(logsumexp + slot * GROUP + member, top + tl.log2(total), mask=member < GROUP)
            # The barrier and acq_rel order every thread's stores before the count, so that the program that counts last
            # sees the results of all splits.
            tl.debug_barrier()
            arrival = arrivals + row * KV_HEADS + kv_head
            if tl.atomic_add(arrival, 1, sem="acq_rel", scope="gpu") == splits - 1:
                begin = (kv_head.to(tl.int64) * programs + first) * GROUP
                result = merged(partials + begin * SIZE, logsumexp + begin, splits, GROUP, MERGE_BLOCK, SIZE, AT_ONCE)
                query = tl.arange(0, MERGE_BLOCK)[:, None]
                tl.store(target + query * SIZE + index, result.to(dtype), mask=query < GROUP)
                tl.store(arrival, 0)


class TritonRopeAttention:
    """As `rope_attention`, in one kernel; D must be a power of two. Calls must follow one another on one stream.

    The launch depends on the number of rows only, so that a captured step serves all lengths; `max_kv_length` of a call
    is not needed.
    """

    def __init__(
        self,
        rows: int,
        kv_heads: int,
        processors: int,
        device: torch.device,
        *,
        capability: int = 0,
        pdl: bool = False,
    ) -> None:
        """rows: the largest batch.  processors: multiprocessors of the device.

        capability: of the device, 90 is 9.0; an unknown one gets a plan that every device can run.
        pdl: launch as a programmatic dependent of the kernel before.
        """
        self._processors, self._capability, self._pdl = processors, capability, pdl
        self._arrivals = torch.zeros(rows, kv_heads, dtype=torch.int32, device=device)

    def __call__(
        self,
        table: RopeTable,
        positions: torch.Tensor,
        active: torch.Tensor,
        max_kv_length: int,
        kv_heads: int,
    ) -> LayerAttention:
        return partial(self._launch, table, positions, active)

    def _launch(
        self,
        table: RopeTable,
        positions: torch.Tensor,
        active: torch.Tensor,
        qkv: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
    ) -> torch.Tensor:
        rows, size, kv_heads = positions.shape[0], table.cos.shape[1], k_cache.shape[1]
        heads = qkv.shape[1] // size - 2 * kv_heads
        group = heads // kv_heads
        plan = SplitPlan.choose(rows, heads, kv_heads, size, self._processors, self._capability)
        out = qkv.new_empty(rows, heads * size)
        partials = qkv.new_empty(kv_heads, plan.programs, group, size, dtype=torch.float32)
        logsumexp = qkv.new_empty(kv_heads, plan.programs, group, dtype=torch.float32)
        _rope_attention_kernel[(plan.programs, kv_heads)](
            qkv,
            table.cos,
            table.sin,
            k_cache,
            v_cache,
            positions,
            active,
            partials,
            logsumexp,
            self._arrivals,
            out,
            k_cache.stride(0),
            k_cache.stride(1),
            rows,
            SCALE=plan.scale,
            HEADS=heads,
            KV_HEADS=kv_heads,
            GROUP_BLOCK=plan.group_block,
            MERGE_BLOCK=power_of_2(group),
            AT_ONCE=SPLITS_MERGED_AT_ONCE,
            SIZE=size,
            ROWS=power_of_2(rows),
            BLOCK=plan.block,
            PDL=self._pdl,
            num_warps=4,
            num_stages=plan.stages,
            **launch_options(pdl=self._pdl),
        )
        return out
