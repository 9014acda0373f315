"""Compiles every kernel for given GPUs on a machine without one, so that a container image can hold them.

    TRITON_CACHE_DIR=/where/the/worker/looks python -m higgs_core.kernels.precompile --capability 80 86 89 90 100 120

The launchers run as in a decode step, but on tensors without storage and compiling instead of launching, so that the
cache holds what the worker will look up. With a C compiler the launch stubs are built too, and the worker needs none.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from transformers.models.higgs_audio_v2.configuration_higgs_audio_v2 import HiggsAudioV2Config

from higgs_core.config import ModelConfig
from higgs_core.kernels import rms_norm, swiglu
from higgs_core.kernels.attention.rope_attention import TritonRopeAttention
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.cross_compile import build_launch_stubs, compiling
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.linear.weight_tiles import FP8_MIN_CAPABILITY
from higgs_core.kernels.pdl import MIN_CAPABILITY
from higgs_core.kernels.plans.linear_plan import FAMILIES, LINEAR_ADD, ROW_BUCKETS, Choice, Key, choices
from higgs_core.kernels.plans.plan_choice import keys_of
from higgs_core.kernels.plans.planned_ops import launcher
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.snake import snake_triton
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.params import MAX_RAS_WINDOW
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import SamplerRows

log = logging.getLogger(__name__)

CAPABILITIES = (80, 86, 89, 90, 100, 103, 120)
_ROWS = (1, 2, 4, 5, 8, 16, 32, 64, 128)  # batch sizes of captured decode steps; 5 is one of the check at start
_CONTEXT = 2048  # any: kernels do not depend on it
_PROCESSORS = (48, 58, 84, 108, 128, 132, 144, 170, 188)  # of common GPUs; only the magnitude matters
_PARTS_PER_JOB = 2  # kernels take differently long to compile
_KINDS = (None, torch.int8, torch.float8_e4m3fn)  # of the layers' weights; None is the model's dtype


def launch_all(
    config: ModelConfig,
    dtype: torch.dtype,
    capability: int,
    *,
    rows: tuple[int, ...] = _ROWS,
    linear_rows: tuple[int, ...] = ROW_BUCKETS,
    processors: tuple[int, ...] = _PROCESSORS,
    kinds: tuple[torch.dtype | None, ...] = _KINDS,
    pdl: tuple[bool, ...] = (False, True),
    every_choice: bool = True,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Call every launcher as a worker with a GPU of this capability does.

    linear_rows: of the linear operations, buckets of a plan.  kinds: those that the GPU cannot read are left out.
    pdl: without (the check at start) and with it; only without before sm_90.  every_choice: of the linear kernels;
    else only the first one of each family.  share: (which, of how many) parts of the launches.
    """
    readable = [kind for kind in kinds if kind != torch.float8_e4m3fn or capability >= FP8_MIN_CAPABILITY]
    keys = dict.fromkeys(key for kind in readable for key in keys_of(config, dtype, kind) if key.rows in linear_rows)
    launches: list[Callable[[], None]] = [_launch_codec]
    for with_pdl in pdl if capability >= MIN_CAPABILITY else (False,):
        for count in rows:
            launches.append(partial(_launch_simple, config, dtype, count, pdl=with_pdl))
            for number in processors:
                launches.append(partial(_launch_attention, config, dtype, count, number, capability, pdl=with_pdl))
        for key in keys:
            launches.append(partial(_launch_linear, config, dtype, key, every_choice=every_choice, pdl=with_pdl))
    which, parts = share
    with torch.device("meta"):
        for launch in launches[which::parts]:
            launch()


def _launch_simple(config: ModelConfig, dtype: torch.dtype, rows: int, *, pdl: bool) -> None:
    x, weight = torch.empty(rows, config.hidden_size, dtype=dtype), torch.empty(config.hidden_size, dtype=dtype)
    rms_norm.rms_norm_triton(x, weight, config.rms_norm_eps, pdl=pdl)
    swiglu.swiglu_triton(torch.empty(rows, 2 * config.intermediate_size, dtype=dtype), pdl=pdl)
    whole, real = torch.empty(rows, dtype=torch.int64), torch.empty(rows)
    logits = torch.empty(rows, config.num_codebooks, config.codebook_size, dtype=dtype)
    window = torch.empty(rows, MAX_RAS_WINDOW, config.num_codebooks, dtype=torch.int64)
    parameters = SamplerRows(real, whole, real, whole, whole, whole)
    column = torch.empty(rows, config.num_codebooks, dtype=torch.int64)
    emitted, active = (
        torch.empty(rows, config.num_codebooks + 1, dtype=torch.int64),
        torch.empty(rows, dtype=torch.bool),
    )
    state = DecodeState(column, whole, window, whole, whole, whole, active, emitted, parameters)
    sample = TritonSampler(config.num_codebooks, config.codebook_size, logits.device, pdl=pdl)
    sample(logits, window, parameters, whole, 1)  # as in its check; in a step it runs with the end of the step
    TritonStepTail(config, sample, logits.device, pdl=pdl)(state, logits, 1)
    table = torch.empty(config.num_codebooks * config.codebook_size, config.hidden_size, dtype=dtype)
    embed_columns_triton(column, table, pdl=pdl)


def _launch_attention(
    config: ModelConfig, dtype: torch.dtype, rows: int, processors: int, capability: int, *, pdl: bool
) -> None:
    qkv = torch.empty(rows, config.qkv_size, dtype=dtype)
    angle = torch.empty(_CONTEXT + 1, config.head_dim, dtype=dtype)
    cache = torch.empty(rows, config.num_kv_heads, _CONTEXT + 1, config.head_dim, dtype=dtype)
    positions, active = torch.empty(rows, dtype=torch.int64), torch.empty(rows, dtype=torch.bool)
    attention = TritonRopeAttention(rows, config.num_kv_heads, processors, qkv.device, capability=capability, pdl=pdl)
    attention(RopeTable(angle, angle), positions, active, _CONTEXT, config.num_kv_heads)(qkv, cache, cache)


def _launch_linear(config: ModelConfig, dtype: torch.dtype, key: Key, *, every_choice: bool, pdl: bool) -> None:
    kind = None if key.kind == key.dtype else key.kind_dtype
    weights = [_weight(shape, dtype, kind) for shape in key.shapes]
    (outer, inner), hidden = key.shapes[0], config.hidden_size
    x, norm = torch.empty(key.rows, inner, dtype=dtype), torch.empty(hidden, dtype=dtype)
    for family in FAMILIES:
        found: Iterable[Choice] = choices(key, family)
        for choice in found if every_choice else list(found)[:1]:
            run = launcher(key.operation, choice, pdl=pdl)
            if key.operation == LINEAR_ADD:
                run(x, weights[0], torch.empty(key.rows, outer, dtype=dtype))
            else:
                run(x, norm, config.rms_norm_eps, *weights)


def _weight(shape: tuple[int, int], dtype: torch.dtype, kind: torch.dtype | None) -> Weight:
    if kind is None:
        return torch.empty(shape, dtype=dtype)
    return QuantizedWeight(torch.empty(shape, dtype=kind), torch.empty(shape[0]))


def _launch_codec() -> None:
    channels = 64  # any multiple of 16, which all of the released codec's are
    alpha = torch.empty(1, channels, 1)
    snake_triton(torch.empty(1, channels, 960), alpha, alpha)


def compile_part(capability: int, which: int, parts: int) -> int:
    """Compile one of several parts for the released checkpoint in bf16; returns how many kernels that were.

    Its shapes are the defaults of transformers' config.
    """
    shapes = HiggsAudioV2Config()
    shapes.codebook_size = shapes.audio_stream_eos_id + 1
    config = ModelConfig(shapes, audio_paths=(), eos_token_ids=())  # no kernel uses either
    with compiling(capability) as kernels:
        launch_all(config, torch.bfloat16, capability, share=(which, parts))
    build_launch_stubs(kernels)
    return len(kernels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the kernels into Triton's cache, without a GPU.")
    parser.add_argument("--capability", type=int, nargs="+", default=CAPABILITIES, help="90 is 9.0; default: all known")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started, parts = time.perf_counter(), _PARTS_PER_JOB * options.jobs
    # Spawned: a process that has used a GPU cannot be forked.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for capability in options.capability:
            numbers = list(pool.map(partial(compile_part, capability, parts=parts), range(parts)))
            seconds = time.perf_counter() - started
            log.info("%d kernels for sm_%d, %.0f s since the start", sum(numbers), capability, seconds)


if __name__ == "__main__":
    main()
