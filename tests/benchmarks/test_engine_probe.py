"""What benchmarks take from inside the engine, while it runs and while it is made."""

from __future__ import annotations

import logging

import pytest
import torch

import higgs_core.build
from benchmarks.engine_probe import bare_step_ms, columns_of_steps, prefill_ms
from benchmarks.harness import prompt_of_length, sampled
from benchmarks.making_probe import (
    kernel_warnings,
    noted_making,
    operations,
    operations_with_kernels,
    without_kernels,
)
from benchmarks.models import SMALLEST, random_parts
from higgs_core import HiggsAudioEngine
from higgs_core.build import EngineParts
from higgs_core.kernels import torch_ops
from tests.helpers.transformers_twin import prompt_of


@pytest.fixture(scope="module")
def parts() -> EngineParts:
    torch.set_num_threads(1)
    return random_parts(SMALLEST, "cpu", torch.float32, slots=3, context=256)


def test_single_steps_and_prefills_are_timed_and_leave_no_row_active(parts: EngineParts) -> None:
    assert bare_step_ms(parts, 2, 64, 5) > 0
    host, device = prefill_ms(parts, prompt_of(parts, prompt_of_length(parts, 64, 0)))
    assert 0 < host <= device
    assert not parts.state.active.any()


def test_the_same_steps_emit_the_same_columns_and_stop_where_a_row_is_deactivated(parts: EngineParts) -> None:
    with torch.inference_mode():
        first, second = (columns_of_steps(parts, 3, lambda row: sampled(8, row), 8, capture=False) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (8, 3, 9)
    assert first[:4, :, -1].all()
    assert not first[4:, 2, -1].any()


def test_how_an_engine_is_made_is_noted_by_what_was_done() -> None:
    with noted_making() as making, HiggsAudioEngine.from_pretrained("tiny", "tiny", device="cpu") as engine:
        assert engine.max_batch_size > 0
    assert making.seconds.keys() == {"allocation", "reading", "codec", "kernels"}
    assert all(seconds > 0 for seconds in making.seconds.values())
    assert making.self_check_seconds == making.seconds["kernels"]
    assert "partial" not in str(higgs_core.build.ops_for)


def test_kernels_can_be_kept_out_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def own_operations(*_: object, **__: object) -> object:
        raise AssertionError("kernels were chosen")

    monkeypatch.setattr(higgs_core.build, "ops_for", own_operations)
    with without_kernels():
        parts = random_parts(SMALLEST, "cpu", torch.float32, slots=1, context=64)
    assert operations_with_kernels(operations(parts)) == []
    assert operations(parts) == torch_ops()


def test_a_warning_is_kept_with_the_error_behind_it_and_the_next_one_without() -> None:
    log = logging.getLogger("higgs_core.kernels.checks.self_check")
    with kernel_warnings() as warnings:
        log.debug("Checking failed", exc_info=RuntimeError("no C compiler"))
        log.warning("The %s kernel is off", "GEMV")
        log.warning("The sampler kernel is off")
        log.info("not a warning")
    log.warning("afterwards")
    assert warnings == ["The GEMV kernel is off (no C compiler)", "The sampler kernel is off"]
