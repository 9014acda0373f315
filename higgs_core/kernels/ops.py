"""The operations of a decode step that have more than one implementation, as one record of callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.attention.rope_attention import LayerAttention, rope_attention
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.embed_columns import embed_columns
from higgs_core.kernels.linear.quantized_weight import Weight
from higgs_core.kernels.linear.torch_linear import linear, linear_add, norm_linear, norm_mlp_add
from higgs_core.kernels.rms_norm import rms_norm
from higgs_core.kernels.swiglu import swiglu
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler
from higgs_core.sampling.step_tail import Sample, StepTail

Tensor = torch.Tensor


class RopeAttention(Protocol):
    def __call__(
        self, table: RopeTable, positions: Tensor, active: Tensor, max_kv_length: int, kv_heads: int
    ) -> LayerAttention: ...


class StepTailOp(Protocol):
    def __call__(self, state: DecodeState, logits: Tensor, max_top_k: int, /) -> None: ...


MakeSampler = Callable[[int, int, torch.device], Sample]
MakeStepTail = Callable[[ModelConfig, Sample, torch.device], StepTailOp]


@dataclass(frozen=True, slots=True)
class Ops:
    """Tensors have the model's dtype unless stated otherwise.

    B rows of a decode step, N any number of positions, H hidden size, I intermediate size of the MLP, Hq query and Hkv
    KV heads of size D, S slots of C positions, Q codebooks of V codes, W columns of history. A weight may be quantised.

    embed_columns(columns int64 [B, Q], table [Q V, H]) -> [B, H]
    rms_norm(x [N, H], weight [H], eps) -> [N, H]
    linear(x [N, in], weight [out, in]) -> [N, out]
    swiglu(gate_up [N, 2 I]) -> [N, I]
    norm_linear(x [B, H], norm [H], eps, weight [out, H]) -> [B, out]
        linear(rms_norm(x))
    linear_add(x [B, in], weight [out, in], residual [B, out]) -> residual, overwritten
        residual + linear(x)
    norm_mlp_add(residual [B, H], norm [H], eps, gate_up [2 I, H], down [H, I]) -> residual, overwritten
        residual + down(swiglu(gate_up(rms_norm(residual))))
    rope_attention(table of C positions, positions [B], active bool [B], max_kv_length, kv_heads)
        -> callable(qkv [B, (Hq + 2 Hkv) D], k_cache [S, Hkv, C, D], v_cache [S, Hkv, C, D]) -> [B, Hq D]
        called once per decode step; the returned function runs one layer and writes its keys and values
    sampler(Q, V, device) -> callable(logits [B, Q, V], window [B, W, Q], rows, step [B], max_top_k) -> [B, Q]
    step_tail(config, sample, device) -> callable(state, logits [B, Q, V], max_top_k)
        samples the next columns and updates `state` for the next step
    """

    embed_columns: Callable[[Tensor, Tensor], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    linear: Callable[[Tensor, Weight], Tensor]
    swiglu: Callable[[Tensor], Tensor]
    norm_linear: Callable[[Tensor, Tensor, float, Weight], Tensor]
    linear_add: Callable[[Tensor, Weight, Tensor], Tensor]
    norm_mlp_add: Callable[[Tensor, Tensor, float, Weight, Weight], Tensor]
    rope_attention: RopeAttention
    sampler: MakeSampler
    step_tail: MakeStepTail


def torch_ops() -> Ops:
    """Every operation in torch: what a CPU runs and what the kernels are compared with."""
    return Ops(
        embed_columns=embed_columns,
        rms_norm=rms_norm,
        linear=linear,
        swiglu=swiglu,
        norm_linear=norm_linear,
        linear_add=linear_add,
        norm_mlp_add=norm_mlp_add,
        rope_attention=rope_attention,
        sampler=Sampler,
        step_tail=StepTail,
    )
