"""RoPE, KV write and split attention in one kernel, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.flash_decode import SplitPlan
from higgs_core.kernels.ops import RopeAttention
from higgs_core.kernels.rope_attention import TritonRopeAttention, rope_attention
from higgs_core.kernels.rope_kv import RopeTable
from tests.helpers.kernel_shapes import DTYPES, angles, assert_close, random

HEADS, KV_HEADS, SIZE = 6, 2, 16
CONTEXT, USED = 131, 128
ONE_SPLIT, SOME_SPLITS, ALL_SPLITS = 1, 6, 400  # multiprocessors that lead to so many
FP32, BF16 = DTYPES
VARIETY = [
    (1, ALL_SPLITS, FP32),
    (1, SOME_SPLITS, BF16),
    (2, SOME_SPLITS, FP32),
    (2, ALL_SPLITS, BF16),
    (3, ONE_SPLIT, FP32),
    (3, SOME_SPLITS, BF16),
    (8, SOME_SPLITS, FP32),
    (8, ONE_SPLIT, BF16),
]
EDGES = (1, 31, 32, 33, 64, 65, 127, 128)  # lengths around the bounds of blocks and splits


def caches(rows: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """k and v as the engine's cache has them: parts of one tensor, more slots than rows."""
    return list(random(2, rows + 1, KV_HEADS, CONTEXT, SIZE, dtype=dtype))


def lengths_of(rows: int) -> torch.Tensor:
    return torch.tensor([*EDGES[: rows - 1], USED]) if rows < len(EDGES) else torch.tensor(EDGES)


def run(
    attention: RopeAttention,
    qkv: torch.Tensor,
    caches: list[torch.Tensor],
    positions: torch.Tensor,
    table: RopeTable,
    active: torch.Tensor | None = None,
) -> torch.Tensor:
    """One layer of one step; every row is active unless said otherwise."""
    active = torch.ones_like(positions, dtype=torch.bool) if active is None else active
    return attention(table, positions, active, USED, KV_HEADS)(qkv, *caches)


def rope_table(dtype: torch.dtype = torch.float32) -> RopeTable:
    return RopeTable(*angles(CONTEXT, SIZE, dtype))


@pytest.mark.parametrize(("rows", "processors", "dtype"), VARIETY)
def test_rope_attention_is_rotation_write_and_attention(rows: int, processors: int, dtype: torch.dtype) -> None:
    qkv, table = random(rows, (HEADS + 2 * KV_HEADS) * SIZE, dtype=dtype), rope_table(dtype)
    k, v = caches(rows, dtype)
    expected_k, expected_v = k.clone(), v.clone()
    lengths = lengths_of(rows)
    positions = lengths - 1
    expected = run(rope_attention, qkv, [expected_k, expected_v], positions, table)
    for slot, position in enumerate(positions):
        k[slot, :, position:USED] = torch.nan  # neither what lay at the new position nor what lies beyond is read
        v[slot, :, position:USED] = torch.nan
    kernel = TritonRopeAttention(rows, KV_HEADS, processors, torch.device("cpu"))
    assert_close(run(kernel, qkv, [k, v], positions, table), expected)
    for slot, length in enumerate(lengths):
        assert_close(k[slot, :, :length], expected_k[slot, :, :length])
        assert torch.equal(v[slot, :, :length], expected_v[slot, :, :length])
        assert torch.equal(k[slot, :, USED:], expected_k[slot, :, USED:])
        assert k[slot, :, length:USED].isnan().all()  # nor is anything written beyond the new position
        assert v[slot, :, length:USED].isnan().all()
    assert torch.equal(k[rows:], expected_k[rows:])


@pytest.mark.parametrize("group", [1, 5, 20])
def test_rope_attention_of_other_group_sizes(group: int) -> None:
    qkv, table = random(2, (group + 2) * KV_HEADS * SIZE), rope_table()
    k, v = caches(2, torch.float32)
    lengths = torch.tensor([70, 3])
    kernel = TritonRopeAttention(2, KV_HEADS, ALL_SPLITS, torch.device("cpu"))
    expected = run(rope_attention, qkv, [k.clone(), v.clone()], lengths - 1, table)
    assert_close(run(kernel, qkv, [k, v], lengths - 1, table), expected)


def test_every_layer_of_a_step_gives_the_same_for_the_same_input() -> None:
    qkv, active = random(2, 160), torch.ones(2, dtype=torch.bool)
    lengths = torch.tensor([USED, 40])
    kernel = TritonRopeAttention(2, KV_HEADS, ALL_SPLITS, torch.device("cpu"))
    layer = kernel(rope_table(), lengths - 1, active, USED, KV_HEADS)
    k, v = caches(2, torch.float32)
    assert torch.equal(layer(qkv, k, v), layer(qkv, k, v))


def test_an_inactive_row_writes_to_scratch_and_leaves_the_others_alone() -> None:
    qkv, table = random(3, (HEADS + 2 * KV_HEADS) * SIZE), rope_table()
    k, v = caches(3, torch.float32)
    before = k.clone()
    positions, active = torch.tensor([69, CONTEXT - 1, 4]), torch.tensor([True, False, True])
    kernel = TritonRopeAttention(3, KV_HEADS, ALL_SPLITS, torch.device("cpu"))
    expected = run(rope_attention, qkv, [k.clone(), v.clone()], positions, table, active)
    assert_close(run(kernel, qkv, [k, v], positions, table, active), expected)
    assert torch.equal(k[1, :, : CONTEXT - 1], before[1, :, : CONTEXT - 1])


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("max_kv_length", [64, 512, 8192])
def test_a_plan_fills_the_gpu_and_covers_every_length(rows: int, max_kv_length: int) -> None:
    plan = SplitPlan.choose(rows, 24, 8, 128, max_kv_length, torch.bfloat16, processors=132)
    programs = rows * 8 * plan.splits
    most = rows * 8 * max(max_kv_length // plan.block, 1)
    assert programs >= min(132, most)
    assert plan.splits & (plan.splits - 1) == 0
    assert plan.group_block == 16
