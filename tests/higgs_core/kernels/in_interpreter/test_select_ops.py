"""The check at start with real kernels: all on where they agree, one off by name where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from higgs_core.kernels import gemv, rms_norm, select_ops, self_check_attention, self_check_cases, swiglu
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.linear import linear
from higgs_core.kernels.ops import Ops, torch_ops
from higgs_core.kernels.rope_attention import LayerAttention, TritonRopeAttention
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.select_ops import kernel_ops
from higgs_core.kernels.step_tail import TritonStepTail
from tests.helpers.kernel_shapes import model_config, random

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _short_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is slow; what the cases hold stays the same."""
    monkeypatch.setattr(self_check_attention, "ROWS_AND_CONTEXTS", ((2, 64),))
    monkeypatch.setattr(self_check_cases, "ROWS", (2,))


def start(timer: Callable[..., float] | None = None) -> Ops:
    config = model_config(
        hidden_size=24,
        intermediate_size=40,
        num_attention_heads=3,
        num_key_value_heads=1,
        num_codebooks=1,
        codebook_size=20,
        audio_stream_bos_id=18,
        audio_stream_eos_id=19,
    )
    never_worth_it = timer or (lambda *_: 1.0)
    return kernel_ops(config, CPU, torch.float32, processors=4, timer=never_worth_it)


def test_every_kernel_is_on_where_it_agrees(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ops = start()
    assert caplog.records == []
    assert ops.rms_norm is rms_norm.rms_norm_triton
    assert ops.swiglu is swiglu.swiglu_triton
    assert isinstance(ops.rope_attention, TritonRopeAttention)
    assert ops.sampler is TritonSampler
    assert ops.step_tail is TritonStepTail
    assert ops.embed_columns is embed_columns_triton


def test_a_broken_kernel_is_switched_off_by_name_and_the_others_stay(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swiglu, "swiglu_triton", lambda gate_up: swiglu.swiglu(gate_up) * 1.01)
    with caplog.at_level(logging.WARNING):
        ops = start()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["The SwiGLU kernel is off"]
    assert ops.swiglu is torch_ops().swiglu
    assert ops.rms_norm is rms_norm.rms_norm_triton


def test_attention_that_is_off_falls_back_to_torch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(TritonRopeAttention):
        def __call__(self, *arguments: Any) -> LayerAttention:
            attend = super().__call__(*arguments)
            return lambda *layer: attend(*layer).roll(1, -1)

    monkeypatch.setattr(select_ops, "TritonRopeAttention", Broken)
    with caplog.at_level(logging.WARNING):
        ops = start()
    assert ops.rope_attention is torch_ops().rope_attention
    assert "The RoPE with attention kernel is off" in caplog.text


def test_a_sampler_that_draws_otherwise_is_switched_off(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shifted(TritonSampler):
        def __call__(self, *arguments: Any) -> torch.Tensor:
            return (super().__call__(*arguments) + 1) % 20

    monkeypatch.setattr(select_ops, "TritonSampler", Shifted)
    with caplog.at_level(logging.WARNING):
        ops = start()
    assert ops.sampler is torch_ops().sampler
    assert "sampler kernel is off" in caplog.text


def test_the_gemv_is_taken_where_it_measures_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    favourite, tried = gemv.CONFIGS[1], []
    run = gemv.linear_triton

    def recorded(x: torch.Tensor, weight: torch.Tensor, config: gemv.GemvConfig) -> torch.Tensor:
        tried.append(config)
        return run(x, weight, config)

    def timer(call: Callable[..., Any], device: torch.device, shape: tuple[int, int], dtype: torch.dtype) -> float:
        if shape != (24, 40):
            return 1.0
        tried.clear()
        call(torch.zeros(shape))
        return 0.5 if tried == [favourite] else 1.0

    monkeypatch.setattr(gemv, "linear_triton", recorded)
    linear_add = start(timer).linear_add
    for rows, expected in ((1, [favourite]), (2, [favourite]), (3, [])):
        x, weight = random(rows, 40), random(24, 40)
        tried.clear()
        torch.testing.assert_close(
            linear_add(x, weight, torch.zeros(rows, 24)), linear(x, weight), atol=1e-5, rtol=1e-4
        )
        assert tried == expected


def test_a_timer_that_fails_leaves_the_library(caplog: pytest.LogCaptureFixture) -> None:
    def timer(*_: Any) -> float:
        raise RuntimeError("no such clock")

    with caplog.at_level(logging.WARNING):
        start(timer)
    assert "GEMV kernel is off: timing it fails with RuntimeError" in caplog.text
    assert "clock" not in caplog.text
