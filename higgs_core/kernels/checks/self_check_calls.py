"""Operations that are made before they are called, as functions of a case's arguments."""

from __future__ import annotations

from typing import Any

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.attention.rope_attention import rope_attention
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.checks.self_check import Function
from higgs_core.kernels.ops import MakeSampler, MakeStepTail, RopeAttention
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import SamplerRows

Tensor = torch.Tensor


def one_layer(attention: RopeAttention, kv_heads: int) -> Function:
    """(qkv, k_cache, v_cache, cos, sin, positions, active, max_kv_length) -> output [B, Hq, D], new keys and values.

    The new keys and values, [B, Hkv, D], are taken out of the caches, so that these are as before.
    """

    def attend(
        qkv: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        cos: Tensor,
        sin: Tensor,
        positions: Tensor,
        active: Tensor,
        max_kv_length: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        places = (torch.arange(qkv.shape[0], device=qkv.device), slice(None), positions)
        before = k_cache[places], v_cache[places]
        layer = attention(RopeTable(cos, sin), positions, active, max_kv_length, kv_heads)
        output = layer(qkv, k_cache, v_cache).view(qkv.shape[0], -1, cos.shape[1])
        written = k_cache[places], v_cache[places]
        k_cache[places], v_cache[places] = before
        return output, *written

    return attend


def one_layer_exactly(kv_heads: int) -> Function:
    """As `one_layer` of the torch function, in fp32, row by row: a copy of all caches in fp32 would be large."""
    layer = one_layer(rope_attention, kv_heads)

    def attend(
        qkv: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        cos: Tensor,
        sin: Tensor,
        positions: Tensor,
        active: Tensor,
        max_kv_length: int,
    ) -> tuple[Tensor, ...]:
        cos, sin = cos.float(), sin.float()
        rows = []
        for row in range(qkv.shape[0]):
            part = slice(row, row + 1)
            caches = k_cache[part].to(torch.float32, copy=True), v_cache[part].to(torch.float32, copy=True)
            rows.append(layer(qkv[part].float(), *caches, cos, sin, positions[part], active[part], max_kv_length))
        return tuple(torch.cat(each) for each in zip(*rows, strict=True))

    return attend


def one_draw(make: MakeSampler, codebooks: int, codes: int, device: torch.device) -> Function:
    """(logits, window, step, the tensors of `SamplerRows`) -> tokens [B, Q]."""
    sample = make(codebooks, codes, device)
    return lambda logits, window, step, *rows: sample(logits, window, SamplerRows(*rows), step, codes)


def one_step_tail(make: MakeStepTail, make_sampler: MakeSampler, config: ModelConfig, device: torch.device) -> Function:
    """(logits, the tensors of `DecodeState`, those of `SamplerRows`) -> None; the state is overwritten."""
    sample = make_sampler(config.num_codebooks, config.codebook_size, device)
    step_tail = make(config, sample, device)

    def run(logits: Tensor, *tensors: Tensor) -> None:
        parts: tuple[Any, ...] = (*tensors[:8], SamplerRows(*tensors[8:]))
        step_tail(DecodeState(*parts), logits, config.codebook_size)

    return run
