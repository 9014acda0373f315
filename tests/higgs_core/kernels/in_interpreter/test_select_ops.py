"""The check at start with real kernels: all on where they agree, one off by name where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from higgs_core.kernels import pdl, rms_norm, select_ops, swiglu, triton_ops
from higgs_core.kernels.attention.rope_attention import LayerAttention, TritonRopeAttention
from higgs_core.kernels.checks import pdl_check, self_check_attention, self_check_cases
from higgs_core.kernels.embed_columns import embed_columns_triton
from higgs_core.kernels.linear import fused_mlp, gemv
from higgs_core.kernels.ops import Ops, torch_ops
from higgs_core.kernels.plans import plan_choice, tuning
from higgs_core.kernels.plans.linear_plan import (
    LIBRARY,
    LINEAR_ADD,
    NORM_LINEAR,
    NORM_MLP_ADD,
    Choice,
    Key,
    Plan,
    choices,
)
from higgs_core.kernels.plans.plan_choice import keys_of
from higgs_core.kernels.plans.tuning import Arguments
from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.select_ops import kernel_ops, plan_in_use
from higgs_core.kernels.step_tail import TritonStepTail
from tests.helpers.kernel_shapes import model_config

CPU = torch.device("cpu")
CONFIG = model_config(
    hidden_size=24,
    intermediate_size=40,
    num_attention_heads=3,
    num_key_value_heads=1,
    num_codebooks=1,
    codebook_size=20,
    audio_stream_bos_id=18,
    audio_stream_eos_id=19,
)
KEYS = keys_of(CONFIG, torch.float32, None)
ALL_LIBRARY = dict.fromkeys(KEYS, LIBRARY)


@pytest.fixture(autouse=True)
def _short_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is slow; what the cases hold stays the same."""
    monkeypatch.setattr(self_check_attention, "ROWS_AND_CONTEXTS", ((2, 64),))
    monkeypatch.setattr(self_check_cases, "ROWS", (2,))
    for name, value in (("_ROWS", (2,)), ("_STEPS", 2), ("_LAYERS", 1)):
        monkeypatch.setattr(pdl_check, name, value)
    for module in (plan_choice, select_ops):
        monkeypatch.setattr(module, "worth_timing", lambda key: True)  # of a model as small as these


def in_turn(step: Callable[[], torch.Tensor], times: int) -> torch.Tensor:
    return [step() for _ in range(times)][-1]


def start(plan: Plan = ALL_LIBRARY, timer: Callable[..., float] = lambda *_: 1.0, capability: int = 80) -> Ops:
    return kernel_ops(
        CONFIG, CPU, torch.float32, processors=4, capability=capability, plan=plan, timer=timer, repeat=in_turn
    )


def key_of(operation: str, rows: int) -> Key:
    return next(key for key in KEYS if key.operation == operation and key.rows == rows)


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

    monkeypatch.setattr(triton_ops, "TritonRopeAttention", Broken)
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

    monkeypatch.setattr(triton_ops, "TritonSampler", Shifted)
    with caplog.at_level(logging.WARNING):
        ops = start()
    assert ops.sampler is torch_ops().sampler
    assert "sampler kernel is off" in caplog.text


def test_a_small_model_is_not_timed_and_runs_the_first_choices(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan_choice, select_ops):
        monkeypatch.setattr(module, "worth_timing", tuning.worth_timing)

    def timer(*_: Any) -> float:
        raise AssertionError

    with caplog.at_level(logging.INFO):
        plan = plan_in_use(start({}, timer))
    assert caplog.records == []
    assert plan[key_of(NORM_MLP_ADD, 1)].family == "fused_mlp"
    assert plan[key_of(LINEAR_ADD, 2)].family == "gemv"
    assert plan[key_of(NORM_LINEAR, 32)].family == "skinny_gemm"


def test_the_released_layers_are_worth_timing_and_fp32_is_not() -> None:
    released = model_config(hidden_size=3072, intermediate_size=8192, num_attention_heads=24, head_dim=128)
    for kind in (None, torch.int8):
        assert all(tuning.worth_timing(key) for key in keys_of(released, torch.bfloat16, kind) if len(key.shapes) > 1)
    assert not any(tuning.worth_timing(key) for key in keys_of(released, torch.float32, None))


def test_a_known_plan_is_used_and_nothing_is_timed(caplog: pytest.LogCaptureFixture) -> None:
    def timer(*_: Any) -> float:
        raise AssertionError("timed")

    plan = {**ALL_LIBRARY, **{key: choices(key, "gemv")[-1] for key in KEYS if key.rows == 1}}
    plan[key_of(NORM_MLP_ADD, 1)] = choices(key_of(NORM_MLP_ADD, 1), "fused_mlp")[-1]
    with caplog.at_level(logging.INFO):
        ops = start(plan, timer)
    assert caplog.records == []
    assert plan_in_use(ops) == plan


def test_what_is_not_in_the_plan_is_timed_and_the_log_says_how_to_keep_it(caplog: pytest.LogCaptureFixture) -> None:
    missing = key_of(LINEAR_ADD, 2)
    favourite = choices(missing, "gemv")[1]
    tried: list[Any] = []

    def timer(call: Callable[..., Any], calls: Sequence[Arguments]) -> float:
        tried.append(call)
        return 0.5 if len(tried) == 3 else 1.0  # the library, the first choice, the favourite

    plan = {key: choice for key, choice in ALL_LIBRARY.items() if key != missing}
    with caplog.at_level(logging.INFO):
        ops = start(plan, timer)
    assert plan_in_use(ops) == {**ALL_LIBRARY, missing: favourite}
    assert "plans/README.md" in caplog.text


@pytest.mark.parametrize("broken", ["fused_mlp", "both"])
def test_an_mlp_that_fails_its_check_gives_way_to_two_launches_and_those_to_the_library(
    broken: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(residual: torch.Tensor, *_: Any, pdl: bool) -> torch.Tensor:
        return residual.fill_(torch.nan)  # as where the programs wait in vain

    plan = dict(ALL_LIBRARY)
    for rows in (1, 2):
        plan[key_of(NORM_MLP_ADD, rows)] = choices(key_of(NORM_MLP_ADD, rows), "fused_mlp")[-1]
    monkeypatch.setattr(fused_mlp, "norm_mlp_add_triton", wrong)
    if broken == "both":
        monkeypatch.setattr(gemv, "norm_mlp_add_triton", wrong)
    with caplog.at_level(logging.WARNING):
        used = plan_in_use(start(plan))
    names = [record.getMessage().split(" kernel")[0] for record in caplog.records]
    assert names == ["The fused_mlp norm_mlp_add", "The gemv norm_mlp_add"][: 2 if broken == "both" else 1]
    families = {used[key_of(NORM_MLP_ADD, rows)].family for rows in (1, 2)}
    assert families == {"library" if broken == "both" else "gemv"}


def every_kernel(rows: int = 2) -> dict[Key, Choice]:
    plan = dict(ALL_LIBRARY)
    for key in KEYS:
        if key.rows == rows:
            plan[key] = choices(key, "fused_mlp" if key.operation == NORM_MLP_ADD else "gemv")[-1]
    return plan


def test_pdl_is_on_where_a_chain_of_steps_computes_the_same(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdl, "gdc_wait", lambda: None)  # no such instruction in the interpreter, where it means nothing
    monkeypatch.setattr(pdl, "gdc_launch_dependents", lambda: None)
    launched = []
    run = gemv.norm_linear_triton

    def recorded(*arguments: Any, pdl: bool) -> torch.Tensor:
        launched.append(pdl)
        return run(*arguments, pdl=pdl)

    monkeypatch.setattr(gemv, "norm_linear_triton", recorded)
    key = key_of(NORM_LINEAR, 2)
    one_kernel = {**ALL_LIBRARY, key: choices(key, "gemv")[-1]}
    with caplog.at_level(logging.WARNING):
        ops = start(every_kernel(), capability=90)
        launched.clear()
        x, weight = torch.randn(2, 24), torch.randn(CONFIG.qkv_size, 24)
        ops.norm_linear(x, torch.ones(24), 1e-5, weight)
        start(one_kernel, capability=89).norm_linear(x, torch.ones(24), 1e-5, weight)
    assert caplog.records == []
    assert launched[0] is True
    assert launched[-1] is False


def test_pdl_that_changes_a_result_or_fails_is_off_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_early(x: torch.Tensor, norm: torch.Tensor, eps: float, weight: Any, config: Any, *, pdl: bool) -> Any:
        return torch_ops().norm_linear(x, norm, eps, weight) + (1e-6 if pdl else 0.0)

    monkeypatch.setattr(gemv, "norm_linear_triton", too_early)
    for with_pdl in ("embed_columns_triton", "TritonSampler", "TritonStepTail", "TritonRopeAttention"):
        original = getattr(triton_ops, with_pdl)
        monkeypatch.setattr(triton_ops, with_pdl, lambda *a, make=original, pdl=False, **k: make(*a, **k))
    plan = {**ALL_LIBRARY, key_of(NORM_LINEAR, 2): choices(key_of(NORM_LINEAR, 2), "gemv")[0]}
    with caplog.at_level(logging.WARNING):
        ops = start(plan, capability=90)
    (record,) = caplog.records
    assert "Programmatic dependent launch is off" in record.getMessage()
    assert ops.rms_norm is rms_norm.rms_norm_triton  # and not a partial one with PDL
