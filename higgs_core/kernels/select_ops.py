"""Selects the operations of a decode step on a device: each Triton kernel that passes its check there, else torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels import gemv, rms_norm, swiglu
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.ops import MakeSampler, MakeStepTail, Ops, torch_ops
from higgs_core.kernels.optional_triton import HAS_TRITON
from higgs_core.kernels.rope_attention import TritonRopeAttention
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.self_check import Case, Function, checked
from higgs_core.kernels.self_check_attention import rope_attention_cases
from higgs_core.kernels.self_check_calls import one_draw, one_layer, one_layer_exactly, one_step_tail
from higgs_core.kernels.self_check_cases import Cases
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.kernels.tuning import ConfiguredLinear, Linear, PlannedLinear, Shape, Timer, fastest, seconds_in_a_graph
from higgs_core.sampling.candidate_sampler import CandidateSampler

log = logging.getLogger(__name__)
T = TypeVar("T")

_MAX_ROWS = 1024  # of a batch; sizes a small buffer


def ops_for(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Ops:
    """The operations of a decode step on `device`, for tensors of `dtype`."""
    if device.type != "cuda":
        return replace(torch_ops(), sampler=CandidateSampler)
    if not HAS_TRITON:
        log.warning("Triton is not installed, so every kernel is off; install triton for full speed")
        return torch_ops()
    with torch.inference_mode(), torch.cuda.device(device):
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        ops = kernel_ops(config, device, dtype, processors, seconds_in_a_graph)
        torch.cuda.empty_cache()  # frees the weights that were used for timing
        return ops


def kernel_ops(config: ModelConfig, device: torch.device, dtype: torch.dtype, processors: int, timer: Timer) -> Ops:
    """The kernels that agree with their torch functions on `device`; GEMV where `timer` finds it faster.

    processors: multiprocessors of the device.
    """
    cases, plain = Cases(config, device, dtype), torch_ops()
    codebooks, codes, kv_heads = config.num_codebooks, config.codebook_size, config.num_kv_heads
    gated = checked("SwiGLU", swiglu.swiglu_triton, plain.swiglu, cases.gated())
    hidden, inner = config.hidden_size, config.intermediate_size
    square = (
        (config.qkv_size, hidden),
        (hidden, config.num_heads * config.head_dim),
        (hidden, inner),
        (codebooks * codes, hidden),
    )
    triton_sampler: MakeSampler = TritonSampler
    triton_step_tail: MakeStepTail = TritonStepTail
    planned = partial(_planned, cases=cases, device=device, dtype=dtype, timer=timer)
    norm = checked("RMSNorm", rms_norm.rms_norm_triton, plain.rms_norm, cases.norm())
    linear = planned("GEMV", plain.linear, gemv.linear_triton, square)
    linear_swiglu = planned(
        "GEMV with SwiGLU",
        lambda x, gate_up: gated(plain.linear(x, gate_up)),
        gemv.linear_swiglu_triton,
        ((2 * inner, hidden),),
    )
    sampler = _one_of(
        "sampler",
        triton_sampler,
        plain.sampler,
        partial(one_draw, codebooks=codebooks, codes=codes, device=device),
        cases.sampler(),
    )
    return Ops(
        embed_columns=checked("column embedding", embed_columns_triton, plain.embed_columns, cases.embed()),
        rms_norm=norm,
        linear=plain.linear,
        swiglu=gated,
        norm_linear=lambda x, weight, eps, out: linear(norm(x, weight, eps), out),
        linear_add=lambda x, weight, residual: residual.add_(linear(x, weight)),
        norm_mlp_add=lambda residual, weight, eps, gate_up, down: residual.add_(
            linear(linear_swiglu(norm(residual, weight, eps), gate_up), down)
        ),
        rope_attention=_one_of(
            "RoPE with attention",
            TritonRopeAttention(_MAX_ROWS, kv_heads, processors, device, capability=_capability(device)),
            plain.rope_attention,
            partial(one_layer, kv_heads=kv_heads),
            rope_attention_cases(config, device, dtype),
            exact=one_layer_exactly(kv_heads),
        ),
        sampler=sampler,
        step_tail=_one_of(
            "end of step",
            triton_step_tail,
            plain.step_tail,
            partial(one_step_tail, make_sampler=sampler, config=config, device=device),
            cases.step_tail(),
        ),
    )


def _capability(device: torch.device) -> int:
    """90 is 9.0; 0 where there is none."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


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
    except Exception as error:  # as in `checked`: no failure here may stop the engine
        log.debug("Timing the %s kernel failed", name, exc_info=error)
        log.warning("The %s kernel is off: timing it fails with %s", name, type(error).__name__)
        return library
    return checked(name, PlannedLinear(library, kernel, plan), library, cases.linear(plan))


def _one_of(
    name: str,
    kernel: T,
    reference: T,
    as_function: Callable[[T], Function],
    cases: Iterable[Case],
    exact: Function | None = None,
) -> T:
    """As `checked`, for kernels that `as_function` turns into functions of a case's arguments."""
    function = as_function(kernel)
    return kernel if checked(name, function, as_function(reference), cases, exact=exact) is function else reference
