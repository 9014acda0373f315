"""The check at start: a kernel that is wrong in any way is off, with one warning that names it."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from higgs_core.kernels import ops_for, optional_triton, select_ops, torch_ops
from higgs_core.kernels.checks.self_check import Case, checked
from tests.helpers.kernel_shapes import model_config


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def double_nearly(x: torch.Tensor) -> torch.Tensor:
    return x * 2.00001


def one_wrong(x: torch.Tensor) -> torch.Tensor:
    result = x * 2
    result[-1, -1] += 0.1
    return result


def not_a_number(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x == x[0, 0], torch.nan, x * 2)


def no_compiler(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("cc1: /home/somebody/secret not found")


CASES = [Case((torch.randn(2, 5),)), Case((torch.randn(1, 5),))]


def check(kernel: Callable[..., Any], reference: Callable[..., Any] = double) -> Callable[..., Any]:
    return checked("doubling", kernel, reference, iter(CASES))


def test_a_kernel_that_agrees_is_on_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert check(double_nearly) is double_nearly
    assert caplog.records == []


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (one_wrong, "off the exact result"),
        (not_a_number, "off the exact result by nan"),
        (no_compiler, "fails with RuntimeError"),
        (lambda x: (x * 2).double(), "returns torch.float64"),
        (lambda x: (x * 2)[:1], "returns torch.float32 [1, 5]"),
        (lambda x: (x * 2, x), "returns 2 tensors"),
        (lambda x: x.mul_(2), "writes to an argument that torch only reads"),
    ],
)
def test_a_kernel_that_disagrees_is_off_with_one_warning(
    kernel: Callable[..., Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert check(kernel) is double
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "The doubling kernel is off" in record.getMessage()
    assert reason in record.getMessage()
    assert "secret" not in record.getMessage()


def test_the_cases_are_left_as_they_were() -> None:
    cases = [Case((torch.randn(2, 5),), writes=(0,))]
    before = cases[0].arguments[0].clone()

    def in_place(x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)

    assert checked("doubling", in_place, in_place, cases) is in_place
    assert torch.equal(cases[0].arguments[0], before)


def test_tokens_may_differ_in_a_draw_or_two_but_no_more(caplog: pytest.LogCaptureFixture) -> None:
    tokens = [Case((torch.arange(1000),))]

    def off_by(count: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x + (torch.arange(1000) < count)

    few, many = off_by(5), off_by(50)
    assert checked("drawing", few, lambda x: x, tokens) is few
    assert checked("drawing", many, lambda x: x, tokens) is not many
    assert "5% of its numbers differ" in caplog.text


def test_a_gpu_without_triton_gets_torch_and_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select_ops, "HAS_TRITON", False)
    assert ops_for(model_config(), torch.device("cuda"), torch.bfloat16) == torch_ops()
    (record,) = caplog.records
    assert "Triton is not installed" in record.getMessage()


def test_a_gpu_runs_torch_where_kernels_are_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ops = ops_for(model_config(), torch.device("cuda"), torch.bfloat16, kernels=False)
    assert ops == torch_ops()
    assert "switched off by the configuration" in caplog.text


def test_every_module_loads_and_its_torch_function_runs_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # an import of it fails
    bare = load_again(Path(optional_triton.__file__))
    assert not bare.HAS_TRITON
    monkeypatch.setitem(sys.modules, "higgs_core.kernels.optional_triton", bare)
    modules = {file.stem: load_again(file) for file in Path(optional_triton.__file__).parent.rglob("*.py")}
    assert {"rms_norm", "rope_attention", "sampler", "step_tail"} <= modules.keys()
    assert modules["swiglu"].swiglu(torch.ones(1, 4)).shape == (1, 2)


def load_again(file: Path) -> ModuleType:
    """A second copy of a module of `higgs_core.kernels`, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"bare_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module
