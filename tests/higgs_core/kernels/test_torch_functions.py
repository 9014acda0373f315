"""The lean torch functions beside plain ones: what a CPU runs, and what the kernels are held to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from higgs_core.kernels import ops_for, torch_ops
from higgs_core.kernels.attention.decode_attention import attention_mask, decode_attention
from higgs_core.kernels.attention.rope_kv import RopeTable, rope_kv_write, rotation
from higgs_core.sampling.candidate_sampler import CandidateSampler
from tests.helpers.kernel_shapes import DTYPES, ROWS, angles, assert_close, model_config, random

OPS = torch_ops()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-4, 3e-3, 1.0, 1e4])  # far below eps, at it, above it
@pytest.mark.parametrize("rows", ROWS)
def test_rms_norm_is_llamas(rows: int, scale: float, dtype: torch.dtype) -> None:
    norm = LlamaRMSNorm(72, eps=1e-5).to(dtype)
    x, weight = random(rows, 72, dtype=dtype).mul(scale), random(72, dtype=dtype)
    norm.weight.data.copy_(weight)
    assert_close(OPS.rms_norm(x, weight, 1e-5), norm(x).detach())


def test_rms_norm_of_no_rows_and_of_silence() -> None:
    assert OPS.rms_norm(torch.zeros(0, 72), torch.ones(72), 1e-5).shape == (0, 72)
    assert torch.equal(OPS.rms_norm(torch.zeros(2, 72), torch.ones(72), 1e-5), torch.zeros(2, 72))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fused_functions_are_their_parts(dtype: torch.dtype) -> None:
    residual, norm = random(3, 24, dtype=dtype), random(24, dtype=dtype)
    gate, up, down = random(33, 24, dtype=dtype), random(33, 24, dtype=dtype), random(24, 33, dtype=dtype)
    normed = OPS.rms_norm(residual, norm, 1e-5)
    assert_close(OPS.norm_linear(residual, norm, 1e-5, gate), F.linear(normed, gate))
    inner = F.silu(F.linear(normed, gate)) * F.linear(normed, up)
    expected = residual + F.linear(inner, down)
    ours = residual.clone()
    assert OPS.linear_add(inner, down, ours) is ours
    assert_close(ours, expected)
    ours = residual.clone()
    assert OPS.norm_mlp_add(ours, norm, 1e-5, torch.cat([gate, up]), down) is ours
    assert_close(ours, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_swiglu_takes_the_gate_first(rows: int, dtype: torch.dtype) -> None:
    x, gate, up = random(rows, 24, dtype=dtype), random(33, 24, dtype=dtype), random(33, 24, dtype=dtype)
    expected = F.silu(F.linear(x, gate)) * F.linear(x, up)
    assert_close(OPS.swiglu(F.linear(x, torch.cat([gate, up]))), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_rope_is_rotate_half_and_each_row_writes_its_own_place(rows: int, dtype: torch.dtype) -> None:
    heads, kv_heads, size, context = 6, 2, 16, 40
    qkv, (cos, sin) = random(rows, (heads + 2 * kv_heads) * size, dtype=dtype), angles(rows, size, dtype)
    k, v = random(2, rows + 1, kv_heads, context, size, dtype=dtype)
    expected_k, expected_v = k.clone(), v.clone()
    positions = torch.randint(0, context, (rows,))
    query, key, value = qkv.view(rows, -1, size).split([heads, kv_heads, kv_heads], dim=1)
    query, key = (
        part[:, :, 0] for part in apply_rotary_pos_emb(query[:, :, None], key[:, :, None], cos[:, None], sin[:, None])
    )
    for row in range(rows):
        expected_k[row, :, positions[row]] = key[row]
        expected_v[row, :, positions[row]] = value[row]
    assert_close(rope_kv_write(qkv, rotation(cos, sin), k, v, positions), query)
    assert_close(k, expected_k)
    assert torch.equal(v, expected_v)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 2, 32), (6, 2, 16), (2, 2, 64), (5, 1, 16)])
@pytest.mark.parametrize("rows", ROWS)
def test_decode_attention_looks_at_each_rows_own_length(
    rows: int, heads: int, kv_heads: int, size: int, dtype: torch.dtype
) -> None:
    max_kv_length = 64
    q, (k, v) = random(rows, heads, size, dtype=dtype), random(2, rows + 1, kv_heads, 70, size, dtype=dtype)
    lengths = torch.randint(1, max_kv_length + 1, (rows,))
    got = decode_attention(q, k, v, attention_mask(lengths, max_kv_length, kv_heads, dtype))
    for row, length in enumerate(lengths):
        keys, values = k[row, :, :length].float(), v[row, :, :length].float()
        expected = F.scaled_dot_product_attention(q[row, :, None].float(), keys, values, enable_gqa=True)
        assert_close(got[row].view(heads, size), expected[:, 0].to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rope_attention_sees_the_position_that_it_writes(dtype: torch.dtype) -> None:
    qkv, table = random(3, 160, dtype=dtype), RopeTable(*angles(65, 16, dtype))
    caches = random(2, 3, 2, 65, 16, dtype=dtype)
    (k, v), positions = caches.clone(), torch.tensor([0, 30, 63])
    query = rope_kv_write(qkv, rotation(table.cos[positions], table.sin[positions]), k, v, positions)
    expected = decode_attention(query, k, v, attention_mask(positions + 1, 64, 2, dtype))
    got = OPS.rope_attention(table, positions, torch.ones(3, dtype=torch.bool), 64, 2)(qkv, *caches)
    assert torch.equal(got, expected)
    assert torch.equal(got[0].view(6, 16), v[0, :, 0].repeat_interleave(3, dim=0))  # one position: its own value


def test_a_cpu_runs_the_torch_functions() -> None:
    assert ops_for(model_config(), torch.device("cpu"), torch.float32) == replace(OPS, sampler=CandidateSampler)
