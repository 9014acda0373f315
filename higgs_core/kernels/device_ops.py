"""The operations of a decode step on a GPU: every kernel that proves itself there, torch functions for the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels import gemv, rms_norm, rope_kv, swiglu
from higgs_core.kernels.check_cases import Cases
from higgs_core.kernels.decode_attention import decode_attention_triton
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.lang import HAS_TRITON
from higgs_core.kernels.ops import Ops, Tensor, torch_ops
from higgs_core.kernels.rope_attention import RopeAttention
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.self_check import checked
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.kernels.tuning import ConfiguredLinear, Linear, PlannedLinear, Shape, Timer, fastest, seconds_in_a_graph
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler, SamplerRows
from higgs_core.sampling.step_tail import StepTail

log = logging.getLogger(__name__)

_MOST_ROWS = 1024  # of a batch; sizes a small buffer


def ops_for(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Ops:
    """The operations of a decode step on `device`, for tensors of `dtype`."""
    if device.type != "cuda":
        return torch_ops()
    if not HAS_TRITON:
        log.warning("Triton is not installed, so every kernel is off; install triton for full speed")
        return torch_ops()
    with torch.inference_mode(), torch.cuda.device(device):
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        ops = kernel_ops(config, device, dtype, processors, seconds_in_a_graph)
        torch.cuda.empty_cache()  # the timings' weights
        return ops


def kernel_ops(config: ModelConfig, device: torch.device, dtype: torch.dtype, processors: int, timer: Timer) -> Ops:
    """Every kernel that agrees with its torch function on `device`; linear layers as `timer` finds them faster.

    processors: multiprocessors of the device.
    """
    cases, plain = Cases(config, device, dtype), torch_ops()
    rope = checked("RoPE with KV write", rope_kv.rope_kv_write_triton, plain.rope_kv_write, cases.rope())
    attention = checked(
        "decode attention",
        partial(decode_attention_triton, processors=processors),
        plain.decode_attention,
        cases.attention(),
    )
    whole = checked(
        "RoPE with attention",
        RopeAttention(_MOST_ROWS, config.num_kv_heads, processors, device),
        _composed(rope, attention),
        cases.rope_attention(),
    )
    gated = checked("SwiGLU", swiglu.swiglu_triton, plain.swiglu, cases.gated())
    hidden, inner = config.hidden_size, config.intermediate_size
    square = (
        (config.qkv_size, hidden),
        (hidden, config.num_heads * config.head_dim),
        (hidden, inner),
        (config.num_codebooks * config.codebook_size, hidden),
    )
    planned = partial(_planned, cases=cases, device=device, dtype=dtype, timer=timer)
    return Ops(
        embed_columns=checked("column embedding", embed_columns_triton, plain.embed_columns, cases.embed()),
        rms_norm=checked("RMSNorm", rms_norm.rms_norm_triton, plain.rms_norm, cases.norm()),
        add_rms_norm=checked(
            "RMSNorm with residual", rms_norm.add_rms_norm_triton, plain.add_rms_norm, cases.add_norm()
        ),
        linear=planned("GEMV", plain.linear, gemv.linear_triton, square),
        linear_swiglu=planned(
            "GEMV with SwiGLU",
            lambda x, gate_up: gated(plain.linear(x, gate_up)),
            gemv.linear_swiglu_triton,
            ((2 * inner, hidden),),
        ),
        swiglu=gated,
        rope_kv_write=rope,
        attention_mask=_no_mask if attention is not plain.decode_attention else plain.attention_mask,
        decode_attention=attention,
        rope_attention=whole,
        sampler=_sampler(config, device, cases),
        step_tail=_step_tail(config, device, cases),
    )


def _planned(
    name: str,
    library: Linear,
    kernel: ConfiguredLinear,
    shapes: tuple[Shape, ...],
    *,
    cases: Cases,
    device: torch.device,
    dtype: torch.dtype,
    timer: Timer,
) -> Linear:
    try:
        plan = fastest(library, kernel, shapes, device, dtype, timer)
    except Exception as error:  # as in `checked`: nothing that goes wrong here may stop the engine
        log.debug("Timing the %s kernel failed", name, exc_info=error)
        log.warning("The %s kernel is off: timing it fails with %s", name, type(error).__name__)
        return library
    return checked(name, PlannedLinear(library, kernel, plan), library, cases.linear(plan))


def _composed(rope: Callable[..., Tensor], attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rope_attention(
        qkv: Tensor,
        cos: Tensor,
        sin: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        positions: Tensor,
        lengths: Tensor,
        max_kv_length: int,
        mask: Tensor | None = None,
    ) -> Tensor:
        query = rope(qkv, cos, sin, k_cache, v_cache, positions)
        return attention(query, k_cache, v_cache, lengths, max_kv_length, mask)

    return rope_attention


def _no_mask(lengths: Tensor, max_kv_length: int, kv_heads: int, dtype: torch.dtype) -> None:
    """The kernels read the lengths themselves."""


def _sampler(config: ModelConfig, device: torch.device, cases: Cases) -> type[Sampler] | type[TritonSampler]:
    codebooks, codes = config.num_codebooks, config.codebook_size

    def flat(kind: type[Sampler] | type[TritonSampler]) -> Callable[..., Tensor]:
        sampler = kind(codebooks, codes, device)
        return lambda logits, window, step, *rows: sampler(logits, window, SamplerRows(*rows), step, codes)

    kernel = flat(TritonSampler)
    agrees = checked("sampler", kernel, flat(Sampler), cases.sampler()) is kernel
    return TritonSampler if agrees else Sampler


def _step_tail(config: ModelConfig, device: torch.device, cases: Cases) -> type[StepTail] | type[TritonStepTail]:
    def flat(kind: type[StepTail] | type[TritonStepTail]) -> Callable[..., None]:
        def step_tail(tokens: Tensor, *state: Tensor) -> None:
            parts: tuple[Any, ...] = (*state, SamplerRows.allocate(tokens.shape[0], device))
            kind(config, lambda *_: tokens, device)(DecodeState(*parts), tokens, 1)

        return step_tail

    kernel = flat(TritonStepTail)
    agrees = checked("step tail", kernel, flat(StepTail), cases.step_tail()) is kernel
    return TritonStepTail if agrees else StepTail
