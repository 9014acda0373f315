"""Selects the operations of a decode step on a device: each Triton kernel that passes its check there, else torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.checks.pdl_check import Repeat, pdl_agrees, repeat_in_a_graph
from higgs_core.kernels.checks.self_check import Case, Function, checked
from higgs_core.kernels.checks.self_check_attention import rope_attention_cases
from higgs_core.kernels.checks.self_check_calls import one_draw, one_layer, one_layer_exactly, one_step_tail
from higgs_core.kernels.checks.self_check_cases import Cases
from higgs_core.kernels.ops import Ops, torch_ops
from higgs_core.kernels.optional_triton import HAS_TRITON
from higgs_core.kernels.pdl import MIN_CAPABILITY
from higgs_core.kernels.plans.linear_plan import Plan, plan_path, read_plan
from higgs_core.kernels.plans.plan_choice import PlanMaker, keys_of
from higgs_core.kernels.plans.planned_ops import PlannedOp
from higgs_core.kernels.plans.tuning import Timer, Tuner, seconds_in_a_graph, worth_timing
from higgs_core.kernels.triton_ops import libraries, triton_ops
from higgs_core.sampling.candidate_sampler import CandidateSampler

log = logging.getLogger(__name__)

_HOW_TO_KEEP = "higgs_core/kernels/plans/README.md"


def ops_for(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    kind: torch.dtype | None = None,
    *,
    kernels: bool = True,
) -> Ops:
    """The operations of a decode step on `device`, for tensors of `dtype`.

    kind: of the layers' quantised weights, int8 or float8_e4m3fn; None is `dtype`.  kernels: False takes torch alone.
    The kernels of a device share counters: at most one engine a GPU in a process may use them.
    """
    if device.type != "cuda":
        return replace(torch_ops(), sampler=CandidateSampler)
    if not kernels:
        log.info("Triton kernels are switched off by the configuration")
        return torch_ops()
    if not HAS_TRITON:
        log.warning("Triton is not installed, so every kernel is off; install triton for full speed")
        return torch_ops()
    with torch.inference_mode(), torch.cuda.device(device):
        ops = kernel_ops(
            config,
            device,
            dtype,
            kind,
            processors=torch.cuda.get_device_properties(device).multi_processor_count,
            capability=_capability(device),
            plan=read_plan(plan_path(torch.cuda.get_device_name(device))),
            timer=seconds_in_a_graph,
            repeat=repeat_in_a_graph,
        )
        torch.cuda.empty_cache()  # frees the weights that were used for timing
        return ops


def kernel_ops(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    kind: torch.dtype | None = None,
    *,
    processors: int,
    capability: int,
    plan: Plan,
    timer: Timer,
    repeat: Repeat,
) -> Ops:
    """The kernels that agree with their torch functions on `device`; linear ones as in `plan`, else the fastest.

    kind: of quantised weights.  processors: multiprocessors.  capability: 90 is 9.0.  timer, repeat: how calls are
    timed and how steps are run for a check.
    """
    assemble = partial(triton_ops, config, device, processors=processors, capability=capability)
    off = _disagreeing(config, device, dtype, assemble({}))
    unplanned = assemble({}, off=off)
    keys = keys_of(config, dtype, kind)
    library = libraries(unplanned.rms_norm, unplanned.swiglu)
    made = PlanMaker(Cases(config, device, dtype), torch_ops(), library, Tuner(device, dtype, timer)).make(keys, plan)
    if any(key not in plan and worth_timing(key) for key in keys):
        log.info("Linear kernels were timed, as there is no plan for this GPU; %s says how to keep one", _HOW_TO_KEEP)
    without = assemble(made, off=off)
    if capability < MIN_CAPABILITY:
        return without
    with_pdl = assemble(made, off=off, pdl=True)
    return with_pdl if pdl_agrees(without, with_pdl, config, device, dtype, kind, repeat) else without


def plan_in_use(ops: Ops) -> Plan:
    """The choices for the linear operations of a decode step; empty for torch functions."""
    return ops.norm_linear.plan if isinstance(ops.norm_linear, PlannedOp) else {}


def _disagreeing(config: ModelConfig, device: torch.device, dtype: torch.dtype, kernels: Ops) -> set[str]:
    """The operations, but for the linear ones, whose kernel is wrong on this device; a warning names each."""
    cases, plain, off = Cases(config, device, dtype), torch_ops(), set[str]()
    codebooks, codes, kv_heads = config.num_codebooks, config.codebook_size, config.num_kv_heads

    def check(
        operation: str,
        name: str,
        its_cases: Iterable[Case],
        as_function: Callable[[Any], Function] = lambda kernel: kernel,
        exact: Function | None = None,
    ) -> None:
        kernel, reference = (as_function(getattr(ops, operation)) for ops in (kernels, plain))
        if checked(name, kernel, reference, its_cases, exact=exact) is not kernel:
            off.add(operation)

    check("rms_norm", "RMSNorm", cases.norm())
    check("swiglu", "SwiGLU", cases.gated())
    check("embed_columns", "column embedding", cases.embed())
    check(
        "rope_attention",
        "RoPE with attention",
        rope_attention_cases(config, device, dtype),
        partial(one_layer, kv_heads=kv_heads),
        one_layer_exactly(kv_heads),
    )
    check("sampler", "sampler", cases.sampler(), partial(one_draw, codebooks=codebooks, codes=codes, device=device))
    sampler = (plain if "sampler" in off else kernels).sampler
    one_tail = partial(one_step_tail, make_sampler=sampler, config=config, device=device)
    check("step_tail", "end of step", cases.step_tail(), one_tail)
    return off


def _capability(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
