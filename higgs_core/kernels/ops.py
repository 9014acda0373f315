"""The operations of a decode step that have more than one implementation, as one record of callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.embed_columns import embed_columns
from higgs_core.kernels.gemv import linear, linear_swiglu
from higgs_core.kernels.rms_norm import add_rms_norm, rms_norm
from higgs_core.kernels.rope_attention import LayerAttention, rope_attention
from higgs_core.kernels.swiglu import swiglu
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler
from higgs_core.sampling.step_tail import Sample, StepTail

Tensor = torch.Tensor


class RopeAttention(Protocol):
    def __call__(
        self, cos: Tensor, sin: Tensor, positions: Tensor, lengths: Tensor, max_kv_length: int, kv_heads: int
    ) -> LayerAttention: ...


class StepTailOp(Protocol):
    def __call__(self, state: DecodeState, logits: Tensor, max_top_k: int, /) -> None: ...


MakeSampler = Callable[[int, int, torch.device], Sample]
MakeStepTail = Callable[[ModelConfig, Sample, torch.device], StepTailOp]


@dataclass(frozen=True, slots=True)
class Ops:
    """Tensors have the model's dtype unless stated otherwise.

    B rows, H hidden size, I intermediate size of the MLP, Hq query and Hkv KV heads of size D, S slots of C positions,
    Q codebooks of V codes, W columns of history.

    embed_columns(columns int64 [B, Q], table [Q V, H]) -> [B, H]
    rms_norm(x [B, H], weight [H], eps) -> [B, H]
    add_rms_norm(x [B, H], residual [B, H], weight [H], eps) -> normed [B, H], new residual [B, H]
        `residual` is overwritten
    linear(x [B, in], weight [out, in]) -> [B, out]
    linear_swiglu(x [B, H], gate_up [2 I, H]) -> [B, I]
        swiglu(linear(x, gate_up))
    swiglu(gate_up [B, 2 I]) -> [B, I]
    rope_attention(cos [B, D], sin [B, D], positions [B], lengths [B], max_kv_length, kv_heads)
        -> callable(qkv [B, (Hq + 2 Hkv) D], k_cache [S, Hkv, C, D], v_cache [S, Hkv, C, D]) -> [B, Hq D]
        called once per decode step; the returned function runs one layer and writes its keys and values
    sampler(Q, V, device) -> callable(logits fp32 [B, Q, V], window [B, W, Q], rows, step [B], max_top_k) -> [B, Q]
    step_tail(config, sample, device) -> callable(state, logits fp32 [B, Q, V], max_top_k)
        samples the next columns and updates `state` for the next step
    """

    embed_columns: Callable[[Tensor, Tensor], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    linear: Callable[[Tensor, Tensor], Tensor]
    linear_swiglu: Callable[[Tensor, Tensor], Tensor]
    swiglu: Callable[[Tensor], Tensor]
    rope_attention: RopeAttention
    sampler: MakeSampler
    step_tail: MakeStepTail


def torch_ops() -> Ops:
    """Every operation in torch: what a CPU runs and what the kernels are compared with."""
    return Ops(
        embed_columns=embed_columns,
        rms_norm=rms_norm,
        add_rms_norm=add_rms_norm,
        linear=linear,
        linear_swiglu=linear_swiglu,
        swiglu=swiglu,
        rope_attention=rope_attention,
        sampler=Sampler,
        step_tail=StepTail,
    )
