"""Linear layers of 3 to 32 rows, compiled for every GPU generation at the released model's shapes, without a GPU."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from higgs_core.kernels.cross_compile import compiling
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.linear.skinny_gemm import (
    CONFIGS,
    SkinnyConfig,
    linear_add_triton,
    norm_linear_triton,
    norm_mlp_add_triton,
)

SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # KiB a program may have
HIDDEN, INNER, QKV, HEAD = 3072, 8192, 5120, 8208
BF16, INT8, FP8 = torch.bfloat16, torch.int8, torch.float8_e4m3fn
KERNEL = "_skinny_gemm_kernel"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


def weight_of(outer: int, inner: int, dtype: torch.dtype) -> Weight:
    values = torch.empty(outer, inner, dtype=dtype)
    return values if dtype == BF16 else QuantizedWeight(values, torch.empty(outer))


def mlp(capability: int, rows: int, dtype: torch.dtype, configs: tuple[SkinnyConfig, SkinnyConfig]) -> list[Any]:
    """The kernels of gate-up and down: the first has the most in registers and shared memory of all layers."""
    with compiling(capability) as kernels, torch.device("meta"):
        norm_mlp_add_triton(
            torch.empty(rows, HIDDEN, dtype=BF16),
            torch.empty(HIDDEN, dtype=BF16),
            1e-5,
            weight_of(2 * INNER, HIDDEN, dtype),
            weight_of(HIDDEN, INNER, dtype),
            configs,
            pdl=capability >= 90,
        )
    return [kernel for kernel in kernels if kernel.src.fn.__name__ == KERNEL]


def assert_within_limits(kernel: Any, capability: int, tmp_path: Path) -> None:
    from triton import knobs

    assert kernel.metadata.shared <= SHARED_MEMORY[capability] * 1024
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(cubin)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"STACK:0 .*LOCAL:0 ", usage), f"spills registers: {usage}"


def assert_streams_weights(kernel: Any) -> None:
    """16 bytes a thread straight into shared memory, and the tensor cores' instructions for one warp."""
    ptx = kernel.asm["ptx"]
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*], \[[^]]*], 0x10", ptx)
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx
    assert "wgmma" not in ptx
    assert "tcgen05" not in ptx


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_fits_into_the_smallest_gpu(config: SkinnyConfig, tmp_path: Path) -> None:
    for kernel in mlp(89, 32, INT8, (config, config)):
        assert_within_limits(kernel, 89, tmp_path)
        assert_streams_weights(kernel)


@pytest.mark.parametrize(("rows", "dtype"), [(8, BF16), (32, BF16), (32, INT8), (8, FP8)])
@pytest.mark.parametrize("capability", SHARED_MEMORY)
def test_every_gpu_generation(capability: int, rows: int, dtype: torch.dtype, tmp_path: Path) -> None:
    if dtype == FP8 and capability < 89:
        pytest.skip("no conversion from fp8")
    for kernel in mlp(capability, rows, dtype, (CONFIGS[5], CONFIGS[3])):
        assert_within_limits(kernel, capability, tmp_path)
        assert_streams_weights(kernel)


def test_the_other_layers_fit_too(tmp_path: Path) -> None:
    with compiling(90) as kernels, torch.device("meta"):
        x, norm = torch.empty(16, HIDDEN, dtype=BF16), torch.empty(HIDDEN, dtype=BF16)
        for outer in (QKV, HEAD):
            norm_linear_triton(x, norm, 1e-5, weight_of(outer, HIDDEN, BF16), CONFIGS[0])
        linear_add_triton(x, weight_of(HIDDEN, HIDDEN, BF16), x, CONFIGS[1])
        norm_linear_triton(x[:9], norm, 1e-5, weight_of(HEAD, HIDDEN, BF16), CONFIGS[0])  # padded to 16 rows as well
    assert [kernel.src.fn.__name__ for kernel in kernels].count(KERNEL) == 2
    for kernel in kernels:
        assert_within_limits(kernel, 90, tmp_path)


def test_sums_are_announced_only_after_every_thread_has_stored_them() -> None:
    for kernel in mlp(90, 8, BF16, CONFIGS[:2]):
        before, after = re.split(r"atom\.global\.gpu\.acq_rel\.add", kernel.asm["ptx"])
        assert before.rindex("st.global") < before.rindex("bar.sync")
        assert after.index("bar.sync") < after.index("ld.global.cg")


def test_with_pdl_only_weights_are_touched_before_the_wait() -> None:
    for kernel in mlp(90, 8, BF16, CONFIGS[:2]):
        before, after = kernel.asm["ptx"].split("griddepcontrol.wait;")
        assert "prefetch.global.L2" in before
        assert not re.search(r"\b(ld|st|atom)\.global|cp\.async", before)
        assert "griddepcontrol.launch_dependents;" in after
