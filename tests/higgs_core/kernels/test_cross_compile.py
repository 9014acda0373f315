"""Every kernel compiles for every GPU generation that the project names, without a GPU, within its limits."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import higgs_core.kernels
from higgs_core.kernels.cross_compile import compiling
from higgs_core.kernels.linear import fused_mlp
from higgs_core.kernels.precompile import CAPABILITIES, launch_all
from tests.helpers.kernel_shapes import model_config

GEMV_KERNELS = {"_norm_linear_kernel", "_linear_add_kernel", "_norm_gate_up_kernel", "_norm_mlp_add_kernel"}
CODEC_KERNELS = {"_snake_kernel"}
SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99}  # KiB a program may have
RELEASED = {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_codebooks": 8,
    "codebook_size": 1026,
}


@pytest.fixture(scope="module", params=CAPABILITIES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Any]]:
    """A capability, and kernels compiled for it at the released model's shapes: a large batch and, for Hopper, one row.

    Each linear operation in the first configuration of each family; with int8 weights for one more GPU.
    """
    capability = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        with compiling(capability) as kernels:
            launch_all(
                model_config(**RELEASED),
                torch.bfloat16,
                capability,
                rows=(1, 32) if capability == 90 else (32,),
                linear_rows=(2, 32) if capability in (86, 90) else (1, 32),
                processors=(132,),
                kinds=(None, torch.int8) if capability in (86, 90) else (None,),
                pdl=(capability >= 90,),
                every_choice=False,
            )
    return capability, kernels


def kernels_in_the_source() -> set[str]:
    folder = Path(higgs_core.kernels.__file__).parent
    functions = (node for file in folder.rglob("*.py") for node in ast.parse(file.read_text()).body)
    return {node.name for node in functions if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel")}


def test_every_kernel_is_there_for_the_right_architecture(compiled: tuple[int, list[Any]]) -> None:
    capability, kernels = compiled
    assert {kernel.src.fn.__name__ for kernel in kernels} == kernels_in_the_source()
    for kernel in kernels:
        assert re.search(rf"\.target sm_{capability}a?\b", kernel.asm["ptx"]), kernel.src.fn.__name__
        assert kernel.asm["cubin"][:4] == b"\x7fELF"


def test_no_kernel_spills_or_asks_for_more_shared_memory_than_there_is(
    compiled: tuple[int, list[Any]], tmp_path: Path
) -> None:
    from triton import knobs

    capability, kernels = compiled
    for kernel in kernels:
        name = kernel.src.fn.__name__
        assert kernel.metadata.shared <= SHARED_MEMORY[capability] * 1024, name
        cubin = tmp_path / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(cubin)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r"STACK:0 .*LOCAL:0 ", usage), f"{name} spills registers: {usage}"


def test_attention_announces_its_result_only_after_every_thread_has_stored_it(compiled: tuple[int, list[Any]]) -> None:
    kernels = [kernel for kernel in compiled[1] if kernel.src.fn.__name__ == "_rope_attention_kernel"]
    for kernel in kernels:
        before, after = re.split(r"atom\.global\.gpu\.acq_rel\.add", kernel.asm["ptx"])
        last_store, last_barrier = before.rindex("st.global"), before.rindex("bar.sync")
        assert last_store < last_barrier
        assert after.index("bar.sync") < after.index("ld.global.cg")


def test_the_mlp_in_one_launch_keeps_the_order_of_its_barrier(compiled: tuple[int, list[Any]]) -> None:
    """Every thread's results are stored, then counted; the next weights are read before the wait, results behind."""
    kernels = [kernel for kernel in compiled[1] if kernel.src.fn.__name__ == "_norm_mlp_add_kernel"]
    assert kernels
    for kernel in kernels:
        before, after = re.split(r"(?:atom|red)\.global\.gpu\.release\.add", kernel.asm["ptx"])
        assert before.rindex("st.global") < before.rindex("bar.sync")
        first_poll, last_poll = after.index(".gpu.acquire"), after.rindex(".gpu.acquire")
        assert after.index("evict_first") < first_poll
        results = after.index("ld.global.cg")
        assert last_poll < after.index("bar.sync", last_poll) < results
        assert "st.global" not in after[:results]
        assert "ld.global.cg" in before  # the phase, read before the arrival


def test_all_programs_of_the_mlp_in_one_launch_fit_on_a_multiprocessor(compiled: tuple[int, list[Any]]) -> None:
    for kernel in compiled[1]:
        if kernel.src.fn.__name__ == "_norm_mlp_add_kernel":
            limits = {each.max_registers for each in fused_mlp.CONFIGS if each.warps == kernel.metadata.num_warps}
            assert int(re.search(r"\.maxnreg (\d+)", kernel.asm["ptx"])[1]) in limits
            assert kernel.metadata.launch_cooperative_grid == (compiled[0] < 90)
    for config in fused_mlp.CONFIGS:
        assert config.per_processor * config.warps * 32 * config.max_registers <= 65536


def test_kernels_with_pdl_wait_before_they_read_what_others_wrote(compiled: tuple[int, list[Any]]) -> None:
    """Weights come before the wait; without PDL there is none."""
    capability, kernels = compiled
    for kernel in [kernel for kernel in kernels if kernel.src.fn.__name__ not in CODEC_KERNELS]:
        ptx = kernel.asm["ptx"]
        assert kernel.metadata.launch_pdl == (capability >= 90), kernel.src.fn.__name__
        assert ptx.count("griddepcontrol.wait") == (capability >= 90), kernel.src.fn.__name__
        assert "st.global" not in ptx.split("griddepcontrol.wait")[0] or capability < 90
        if capability >= 90 and kernel.src.fn.__name__ in GEMV_KERNELS:
            assert "evict_first" in ptx.split("griddepcontrol.wait")[0]


def test_compiling_leaves_launching_as_it_was() -> None:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    before = (JITFunction.run, driver._active)
    with compiling(90):
        assert JITFunction.run is not before[0]
    assert (JITFunction.run, driver._active) == before
