"""The timing of linear kernels: the fastest one, unless a gain is within the noise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight
from higgs_core.kernels.plans import tuning
from higgs_core.kernels.plans.linear_plan import LIBRARY, LINEAR_ADD, NORM_LINEAR, NORM_MLP_ADD, Choice, Key, choices
from higgs_core.kernels.plans.planned_ops import Operation
from higgs_core.kernels.plans.tuning import Arguments, Tuner, fastest

CPU = torch.device("cpu")
MLP = Key(NORM_MLP_ADD, 1, ((400, 72), (72, 200)), "float32", "float32")


def library(*_: Any) -> torch.Tensor:
    raise AssertionError("only timed")


def ranked(key: Key, seconds: Callable[[Choice], float], monkeypatch: pytest.MonkeyPatch) -> list[Choice]:
    """The ranking where a call takes so many seconds, by its choice."""
    monkeypatch.setattr(tuning, "launcher", lambda operation, choice: choice)

    def timer(call: Any, calls: Sequence[Arguments]) -> float:
        return seconds(LIBRARY if call is library else call)

    return Tuner(CPU, torch.float32, timer).ranked(key, library)


def test_the_best_of_each_family_and_the_library_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(NORM_LINEAR, 1, ((144, 72),), "float32", "float32")
    favourite = choices(key, "gemv")[3]
    assert ranked(key, lambda c: 0.5 if c == favourite else 1.0, monkeypatch) == [favourite, LIBRARY]
    assert ranked(key, lambda c: 2.0 if c == favourite else 3.0 if c.configs else 1.0, monkeypatch)[0] == LIBRARY


def test_a_gain_within_the_noise_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(LINEAR_ADD, 1, ((144, 72),), "float32", "float32")
    first, second = choices(key, "gemv")[:2]
    assert ranked(key, lambda c: {first: 0.5, second: 0.49}.get(c, 1.0), monkeypatch)[0] == first
    assert ranked(key, lambda c: 0.99 if c == second else 1.0, monkeypatch)[0] == LIBRARY


def test_the_best_of_both_launches_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(NORM_MLP_ADD, 2, MLP.shapes, "float32", "float32")
    options = choices(key, "gemv")
    first, second = options[2].configs[0], options[-1].configs[1]
    assert Choice("gemv", (first, second)) not in options

    def seconds(choice: Choice) -> float:
        if choice.family != "gemv":
            return 9.0
        return 2.0 - 0.5 * (choice.configs[0] == first) - 0.5 * (choice.configs[1] == second)

    assert ranked(key, seconds, monkeypatch)[0] == Choice("gemv", (first, second))


def test_a_kernel_that_fails_is_not_ranked_and_no_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def seconds(choice: Choice) -> float:
        if choice.family == "fused_mlp":
            raise RuntimeError("too many programs")
        return 0.5 if choice.configs else 1.0

    with caplog.at_level(logging.INFO):
        ranking = ranked(MLP, seconds, monkeypatch)
    assert [choice.family for choice in ranking] == ["gemv", "library"]
    assert "programs" not in caplog.text


def test_if_all_fail_the_library_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(choice: Choice) -> float:
        raise RuntimeError("no clock")

    assert ranked(MLP, seconds, monkeypatch) == [LIBRARY]


def test_without_memory_for_the_weights_the_library_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> list[Arguments]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Tuner, "_calls", full)
    assert ranked(MLP, lambda choice: 1.0, monkeypatch) == [LIBRARY]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize(
    ("operation", "shapes"),
    [(NORM_LINEAR, ((7, 8),)), (LINEAR_ADD, ((7, 8),)), (NORM_MLP_ADD, ((10, 8), (8, 5)))],
)
def test_calls_have_the_arguments_of_the_operation(
    operation: str, shapes: tuple[tuple[int, int], ...], kind: str
) -> None:
    """What is timed is what a decode step calls: the torch function accepts it."""
    from higgs_core.kernels.ops import torch_ops

    function: Operation = getattr(torch_ops(), operation)
    shapes_out = []

    def timer(call: Any, calls: Sequence[Arguments]) -> float:
        for arguments in calls:
            assert isinstance(arguments[-1] if operation != LINEAR_ADD else arguments[1], QuantizedWeight) == (
                kind == "int8"
            )
            shapes_out.append(function(*arguments).shape)
        return 1.0

    Tuner(CPU, torch.float32, timer).ranked(Key(operation, 4, shapes, "float32", kind), library)
    assert set(shapes_out) == {(4, 8 if operation == NORM_MLP_ADD else 7)}


def test_the_first_of_those_that_are_about_as_fast() -> None:
    a, b, c = (Choice("gemv", (number,)) for number in range(3))
    assert fastest({a: 1.02, b: 1.0, c: 1.01}) == a
    assert fastest({a: 1.05, b: 1.01, c: 1.0}) == b
    assert fastest({a: float("inf"), b: 2.0}) == b
