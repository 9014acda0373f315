"""The operations of a decode step that have more than one implementation, as one record of callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.decode_attention import attention_mask, decode_attention
from higgs_core.kernels.embed_columns import embed_columns
from higgs_core.kernels.gemv import linear, linear_swiglu
from higgs_core.kernels.rms_norm import add_rms_norm, rms_norm
from higgs_core.kernels.rope_attention import rope_attention
from higgs_core.kernels.rope_kv import rope_kv_write
from higgs_core.kernels.swiglu import swiglu
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler
from higgs_core.sampling.step_tail import Sample, StepTail

Tensor = torch.Tensor


class AttentionMask(Protocol):
    def __call__(self, lengths: Tensor, max_kv_length: int, kv_heads: int, dtype: torch.dtype) -> Tensor | None: ...


class DecodeAttention(Protocol):
    def __call__(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        lengths: Tensor,
        max_kv_length: int,
        mask: Tensor | None = None,
    ) -> Tensor: ...


class RopeAttention(Protocol):
    def __call__(
        self,
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        positions: Tensor,
        lengths: Tensor,
        max_kv_length: int,
        mask: Tensor | None = None,
    ) -> Tensor: ...


class StepTailOp(Protocol):
    def __call__(self, state: DecodeState, logits: Tensor, candidates: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Ops:
    """Tensors in the model's dtype unless said otherwise.

    B rows, H hidden, I inner width of the MLP, Hq and Hkv heads of D, S slots of C positions, Q codebooks of V codes,
    W columns of history.

    embed_columns(columns int64 [B, Q], table [Q V, H]) -> [B, H]
    rms_norm(x [B, H], weight [H], eps) -> [B, H]
    add_rms_norm(x [B, H], residual [B, H], weight [H], eps) -> normed [B, H], new residual [B, H]
        `residual` is overwritten
    linear(x [B, in], weight [out, in]) -> [B, out]
    linear_swiglu(x [B, H], gate_up [2 I, H]) -> [B, I]
        swiglu(linear(x, gate_up))
    swiglu(gate_up [B, 2 I]) -> [B, I]
    rope_kv_write(qkv [B, (Hq + 2 Hkv) D], cos [B, D], sin [B, D], k_cache [S, Hkv, C, D], v_cache, positions [B])
        -> queries [B, Hq, D]
    attention_mask(lengths [B], max_kv_length, kv_heads, dtype) -> Tensor or None
        what decode_attention takes as `mask`, worth computing once a step
    decode_attention(q [B, Hq, D], k_cache, v_cache, lengths [B], max_kv_length, mask=None) -> [B, Hq D]
    rope_attention(qkv, cos, sin, k_cache, v_cache, positions [B], lengths [B], max_kv_length, mask=None) -> [B, Hq D]
        decode_attention(rope_kv_write(...), ...)
    sampler(Q, V, device) -> callable(logits fp32 [B, Q, V], window [B, W, Q], rows, step [B], candidates) -> [B, Q]
    step_tail(config, sample, device) -> callable(state, logits fp32 [B, Q, V], candidates)
        samples the columns and prepares the next step
    """

    embed_columns: Callable[[Tensor, Tensor], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    linear: Callable[[Tensor, Tensor], Tensor]
    linear_swiglu: Callable[[Tensor, Tensor], Tensor]
    swiglu: Callable[[Tensor], Tensor]
    rope_kv_write: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    attention_mask: AttentionMask
    decode_attention: DecodeAttention
    rope_attention: RopeAttention
    sampler: Callable[[int, int, torch.device], Sample]
    step_tail: Callable[[ModelConfig, Sample, torch.device], StepTailOp]


def torch_ops() -> Ops:
    """Every operation in plain torch: what a CPU runs and what the kernels are compared with."""
    return Ops(
        embed_columns=embed_columns,
        rms_norm=rms_norm,
        add_rms_norm=add_rms_norm,
        linear=linear,
        linear_swiglu=linear_swiglu,
        swiglu=swiglu,
        rope_kv_write=rope_kv_write,
        attention_mask=attention_mask,
        decode_attention=decode_attention,
        rope_attention=rope_attention,
        sampler=Sampler,
        step_tail=StepTail,
    )
