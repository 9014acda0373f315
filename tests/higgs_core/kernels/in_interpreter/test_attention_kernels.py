"""Rotation, KV cache write and split attention in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.decode_attention import decode_attention, decode_attention_triton
from higgs_core.kernels.flash_decode import SplitPlan
from higgs_core.kernels.rope_attention import RopeAttention, rope_attention
from higgs_core.kernels.rope_kv import rope_kv_write, rope_kv_write_triton
from tests.helpers.kernel_shapes import DTYPES, ROWS_AND_DTYPES, angles, assert_close, random

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


@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_rope_kv_write_leaves_the_rest_of_the_cache_alone(rows: int, dtype: torch.dtype) -> None:
    qkv, (cos, sin) = random(rows, (HEADS + 2 * KV_HEADS) * SIZE, dtype=dtype), angles(rows, SIZE, dtype)
    k, v = caches(rows, dtype)
    expected_k, expected_v = k.clone(), v.clone()
    positions = torch.randint(0, CONTEXT, (rows,))
    expected = rope_kv_write(qkv, cos, sin, expected_k, expected_v, positions)
    assert_close(rope_kv_write_triton(qkv, cos, sin, k, v, positions), expected)
    assert_close(k, expected_k)
    assert torch.equal(v, expected_v)


@pytest.mark.parametrize(("rows", "processors", "dtype"), VARIETY)
def test_decode_attention_of_ragged_lengths(rows: int, processors: int, dtype: torch.dtype) -> None:
    q, (k, v), lengths = random(rows, HEADS, SIZE, dtype=dtype), caches(rows, dtype), lengths_of(rows)
    for slot, length in enumerate(lengths):
        k[slot, :, length:] = torch.nan  # nothing beyond a row's length may be looked at
        v[slot, :, length:] = torch.nan
    got = decode_attention_triton(q, k, v, lengths, USED, processors=processors)
    k, v = k.nan_to_num(), v.nan_to_num()
    assert_close(got, decode_attention(q, k, v, lengths, USED))


@pytest.mark.parametrize("group", [1, 5, 20])
def test_decode_attention_of_other_group_sizes(group: int) -> None:
    q, (k, v), lengths = random(2, KV_HEADS * group, SIZE), caches(2, torch.float32), torch.tensor([70, 3])
    got = decode_attention_triton(q, k, v, lengths, USED, processors=ALL_SPLITS)
    assert_close(got, decode_attention(q, k, v, lengths, USED))


@pytest.mark.parametrize(("rows", "processors", "dtype"), VARIETY)
def test_rope_attention_is_rotation_write_and_attention(rows: int, processors: int, dtype: torch.dtype) -> None:
    qkv, (cos, sin) = random(rows, (HEADS + 2 * KV_HEADS) * SIZE, dtype=dtype), angles(rows, SIZE, dtype)
    k, v = caches(rows, dtype)
    expected_k, expected_v = k.clone(), v.clone()
    lengths = lengths_of(rows)
    positions = lengths - 1
    k[torch.arange(rows), :, positions] = torch.nan  # what lay there before must not be read
    whole = RopeAttention(rows, KV_HEADS, processors, torch.device("cpu"))
    expected = rope_attention(qkv, cos, sin, expected_k, expected_v, positions, lengths, USED)
    assert_close(whole(qkv, cos, sin, k, v, positions, lengths, USED), expected)
    assert_close(k, expected_k)
    assert torch.equal(v, expected_v)


def test_rope_attention_gives_the_same_again() -> None:
    qkv, (cos, sin), (k, v) = random(2, 160), angles(2, SIZE, torch.float32), caches(2, torch.float32)
    lengths = torch.tensor([USED, 40])
    whole = RopeAttention(2, KV_HEADS, ALL_SPLITS, torch.device("cpu"))
    once, again = (whole(qkv, cos, sin, k, v, lengths - 1, lengths, USED) for _ in range(2))
    assert torch.equal(once, again)


def test_a_row_that_is_inactive_writes_to_the_dummy_position_and_disturbs_nobody() -> None:
    qkv, (cos, sin) = random(3, (HEADS + 2 * KV_HEADS) * SIZE), angles(3, SIZE, torch.float32)
    k, v = caches(3, torch.float32)
    before = k.clone()
    positions, lengths = torch.tensor([69, CONTEXT - 1, 4]), torch.tensor([70, 1, 5])
    whole = RopeAttention(3, KV_HEADS, ALL_SPLITS, torch.device("cpu"))
    expected = rope_attention(qkv, cos, sin, k.clone(), v.clone(), positions, lengths, USED)
    got = whole(qkv, cos, sin, k, v, positions, lengths, USED)
    assert_close(got, expected)
    assert torch.equal(k[1, :, : CONTEXT - 1], before[1, :, : CONTEXT - 1])


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("used", [64, 512, 8192])
def test_a_plan_fills_the_card_and_covers_every_length(rows: int, used: int) -> None:
    plan = SplitPlan.choose(rows, 24, 8, 128, used, torch.bfloat16, processors=132)
    programs = rows * 8 * plan.splits
    most = rows * 8 * max(used // plan.block, 1)
    assert programs >= min(132, most)
    assert plan.splits & (plan.splits - 1) == 0
    assert (plan.group, plan.group_block) == (3, 16)
