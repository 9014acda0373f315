"""RoPE, KV write and split attention in one kernel, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.attention.flash_decode import SplitPlan, work_of
from higgs_core.kernels.attention.rope_attention import TritonRopeAttention, rope_attention
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.ops import RopeAttention
from higgs_core.kernels.optional_triton import jit, power_of_2, tl
from tests.helpers.kernel_shapes import DTYPES, angles, assert_close, random

HEADS, KV_HEADS, SIZE = 6, 2, 16
CONTEXT, USED = 131, 128
ONE_SPLIT, SOME_SPLITS, ALL_SPLITS = 1, 3, 8  # multiprocessors that lead to so many
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


@jit
def _record_work(positions, active, rows, found, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    program = tl.program_id(0)
    row, first, span = work_of(program, tl.num_programs(0), positions, active, rows, ROWS, BLOCK)
    tl.store(found + program * 3, row)
    tl.store(found + program * 3 + 1, first)
    tl.store(found + program * 3 + 2, span)


@pytest.mark.parametrize("programs", [6, 13, 40])
@pytest.mark.parametrize(
    "lengths", [[1], [8192], [33, 1, 64, 1, 2049], [4000, 5, 5, 5, 5], [65] * 5, [1] * 5, [31, 32, 33]]
)
def test_programs_share_the_positions_evenly_and_leave_none_out(lengths: list[int], programs: int) -> None:
    rows, block = len(lengths), 32
    active = torch.tensor([length > 1 for length in lengths])
    found = torch.empty(programs, 3, dtype=torch.int32)
    positions = torch.tensor([length - 1 if length > 1 else 9999 for length in lengths])  # inactive: the dummy position
    _record_work[(programs,)](positions, active, rows, found, ROWS=power_of_2(rows), BLOCK=block)
    (span,) = found[:, 2].unique().tolist()
    read: list[tuple[int, int]] = []
    for program, (row, first, _) in enumerate(found.tolist()):
        if row < rows:
            start = (program - first) * span
            assert start < lengths[row]
            read += [(row, place) for place in range(start, min(start + span, lengths[row]))]
    assert sorted(read) == [(row, place) for row, length in enumerate(lengths) for place in range(length)]
    blocks = sum(-(-length // block) for length in lengths)
    assert span == block * -(-blocks // (programs - rows))


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 32, 256])
@pytest.mark.parametrize("processors", [1, 48, 132])
def test_a_plan_has_programs_for_every_row_and_fills_the_gpu(rows: int, processors: int) -> None:
    plan = SplitPlan.choose(rows, 24, 8, 128, processors, 90)
    assert plan.programs > rows
    assert plan.programs * 8 >= 4 * processors
    assert plan.group_block == 16
