"""Kernels that are launched before the previous one ends touch nothing that it may write or still read."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from higgs_core.kernels import embed_columns, rms_norm, swiglu
from higgs_core.kernels.attention.rope_attention import TritonRopeAttention
from higgs_core.kernels.attention.rope_kv import RopeTable
from higgs_core.kernels.cross_compile import compiling
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.sampling.decode_state import DecodeState
from tests.helpers.kernel_shapes import model_config

CONFIG = model_config(
    hidden_size=3072, num_attention_heads=24, num_key_value_heads=8, head_dim=128, num_codebooks=8, codebook_size=1026
)
ROWS, POSITIONS = 2, 65
META = torch.device("meta")


def launch(*, pdl: bool) -> None:
    """Every kernel of a step that is not a linear layer."""
    with torch.device("meta"):
        x = torch.empty(ROWS, 3072, dtype=torch.bfloat16)
        logits = torch.empty(ROWS, 8, 1026, dtype=torch.bfloat16)
        cache = torch.empty(ROWS, 8, POSITIONS, 128, dtype=torch.bfloat16)
        angles = torch.empty(POSITIONS, 128, dtype=torch.bfloat16)
        qkv = torch.empty(ROWS, CONFIG.qkv_size, dtype=torch.bfloat16)
    state = DecodeState.allocate(CONFIG, ROWS, 0, META)
    embed_columns.embed_columns_triton(state.column, x, pdl=pdl)
    rms_norm.rms_norm_triton(x, x[0], 1e-5, pdl=pdl)
    swiglu.swiglu_triton(x, pdl=pdl)
    attention = TritonRopeAttention(ROWS, 8, 132, META, capability=90, pdl=pdl)
    attention(RopeTable(angles, angles), state.position, state.active, 64, 8)(qkv, cache, cache)
    sample = TritonSampler(8, 1026, META, pdl=pdl)
    sample(logits, state.window, state.sampler, state.step, 1)
    TritonStepTail(CONFIG, sample, META, pdl=pdl)(state, logits, 1)


@pytest.fixture(scope="module")
def ptx(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By kernel, as it is launched with PDL on a device of capability 9.0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        with compiling(90) as kernels:
            launch(pdl=True)
    assert all(kernel.metadata.launch_pdl for kernel in kernels)
    return {kernel.src.fn.__name__: kernel.asm["ptx"] for kernel in kernels}


def test_no_kernel_reads_or_writes_before_the_wait(ptx: dict[str, str]) -> None:
    assert len(ptx) == 6
    early = {
        name: re.findall(r"\b(?:ld|st|atom|cp\.async)\S*\.global", text) for name, text in before_wait(ptx).items()
    }
    weights = early.pop("_rms_norm_kernel")  # no kernel writes those
    assert set(weights) == {"ld.global"}
    assert not any(early.values()), early


def before_wait(ptx: dict[str, str]) -> dict[str, str]:
    return {name: text[: text.index("griddepcontrol.wait")] for name, text in ptx.items()}


def test_every_kernel_lets_the_next_one_start_right_behind_its_wait(ptx: dict[str, str]) -> None:
    for name, text in ptx.items():
        between = text[text.index("griddepcontrol.wait") : text.index("griddepcontrol.launch_dependents")]
        assert "global" not in between, name


def test_without_pdl_there_is_no_trace_of_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with compiling(80) as kernels:  # which does not know the instructions
        launch(pdl=False)
    assert not any("griddepcontrol" in kernel.asm["ptx"] or kernel.metadata.launch_pdl for kernel in kernels)
