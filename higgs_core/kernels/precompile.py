"""Compiles every kernel for given GPUs on a machine without one, so that a container image can hold them.

    TRITON_CACHE_DIR=/where/the/worker/looks python -m higgs_core.kernels.precompile --capability 80 86 89 90 120

The launchers run as in a decode step, but on tensors without storage and compiling instead of launching, so that the
cache holds what the worker will look up. With a C compiler the launch stubs are built too, and the worker needs none.
"""

from __future__ import annotations

import argparse
import logging
import time

import torch
from transformers.models.higgs_audio_v2.configuration_higgs_audio_v2 import HiggsAudioV2Config

from higgs_core.config import ModelConfig
from higgs_core.kernels import gemv, rms_norm, swiglu
from higgs_core.kernels.cross_compile import build_launch_stubs, compiling
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.rope_attention import TritonRopeAttention
from higgs_core.kernels.rope_kv import RopeTable
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.snake import snake_triton
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.params import MAX_RAS_WINDOW
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import SamplerRows

log = logging.getLogger(__name__)

CAPABILITIES = (80, 86, 89, 90, 120)
_ROWS = (1, 2, 4, 5, 8, 16, 32)  # batch sizes of captured decode steps; 5 is one of the check at start
_MAX_KV_LENGTHS = (512, 1024, 2048, 4096, 8192)
_PROCESSORS = (48, 58, 84, 108, 128, 132, 144, 170, 188)  # of common GPUs; only the magnitude matters


def launch_all(
    config: ModelConfig,
    dtype: torch.dtype,
    *,
    rows: tuple[int, ...] = _ROWS,
    max_kv_lengths: tuple[int, ...] = _MAX_KV_LENGTHS,
    processors: tuple[int, ...] = _PROCESSORS,
    configs: tuple[gemv.GemvConfig, ...] = gemv.CONFIGS,
    capability: int = 0,
) -> None:
    """Call every launcher as a decode step of a model does, for every number of rows and bound of lengths.

    capability: of the GPU, as attention's plan depends on it; 90 is 9.0.
    """
    with torch.device("meta"):
        for count in rows:
            _launch_simple(config, dtype, count)
            for bound in max_kv_lengths:
                for processor_count in processors:
                    _launch_attention(config, dtype, count, bound, processor_count, capability)
        for count in range(1, gemv.MAX_ROWS + 1):
            for each in configs:
                _launch_linear(config, dtype, count, each)
        _launch_codec()


def _launch_simple(config: ModelConfig, dtype: torch.dtype, rows: int) -> None:
    x, weight = torch.empty(rows, config.hidden_size, dtype=dtype), torch.empty(config.hidden_size, dtype=dtype)
    rms_norm.rms_norm_triton(x, weight, config.rms_norm_eps)
    swiglu.swiglu_triton(torch.empty(rows, 2 * config.intermediate_size, dtype=dtype))
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
    sample = TritonSampler(config.num_codebooks, config.codebook_size, logits.device)
    sample(logits, window, parameters, whole, 1)
    TritonStepTail(config, sample, logits.device)(state, logits, 1)
    table = torch.empty(config.num_codebooks * config.codebook_size, config.hidden_size, dtype=dtype)
    embed_columns_triton(column, table)


def _launch_attention(
    config: ModelConfig, dtype: torch.dtype, rows: int, max_kv_length: int, processors: int, capability: int
) -> None:
    qkv = torch.empty(rows, config.qkv_size, dtype=dtype)
    angle = torch.empty(max_kv_length + 1, config.head_dim, dtype=dtype)
    cache = torch.empty(rows, config.num_kv_heads, max_kv_length + 1, config.head_dim, dtype=dtype)
    positions, active = torch.empty(rows, dtype=torch.int64), torch.empty(rows, dtype=torch.bool)
    attention = TritonRopeAttention(rows, config.num_kv_heads, processors, qkv.device, capability=capability)
    attention(RopeTable(angle, angle), positions, active, max_kv_length, config.num_kv_heads)(qkv, cache, cache)


def _launch_linear(config: ModelConfig, dtype: torch.dtype, rows: int, tiling: gemv.GemvConfig) -> None:
    hidden, inner = config.hidden_size, config.intermediate_size
    for width, out_features in ((hidden, config.qkv_size), (inner, hidden)):
        x, weight = torch.empty(rows, width, dtype=dtype), torch.empty(out_features, width, dtype=dtype)
        gemv.linear_triton(x, weight, tiling)
    x, gate_up = torch.empty(rows, hidden, dtype=dtype), torch.empty(2 * inner, hidden, dtype=dtype)
    gemv.linear_swiglu_triton(x, gate_up, tiling)


def _launch_codec() -> None:
    channels = 64  # any multiple of 16, which all of the released codec's are
    alpha = torch.empty(1, channels, 1)
    snake_triton(torch.empty(1, channels, 960), alpha, alpha)


def main() -> None:
    """Compile for the released checkpoint, whose shapes transformers' config has as defaults, in bf16."""
    parser = argparse.ArgumentParser(description="Compile the kernels into Triton's cache, without a GPU.")
    parser.add_argument("--capability", type=int, nargs="+", default=CAPABILITIES, help="90 is 9.0; default: all known")
    shapes = HiggsAudioV2Config()
    shapes.codebook_size = shapes.audio_stream_eos_id + 1
    config = ModelConfig(shapes, audio_paths=(), eos_token_ids=())  # no kernel uses either
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for capability in parser.parse_args().capability:
        started = time.perf_counter()
        with compiling(capability) as kernels:
            launch_all(config, torch.bfloat16, capability=capability)
        log.info("%d kernels for sm_%d in %.0f s", len(kernels), capability, time.perf_counter() - started)
        build_launch_stubs(kernels)


if __name__ == "__main__":
    main()
