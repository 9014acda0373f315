"""Outputs that are read a few steps late, as on a GPU, give the same tokens; here the delay is imposed on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from higgs_core import GenerationParams, HiggsAudioEngine
from higgs_core.runtime.step_output import STEPS_IN_FLIGHT
from tests.golden import CASES, CHECKPOINTS, GoldenCase
from tests.helpers.patience import PATIENCE


@pytest.fixture(params=CHECKPOINTS)
def cases(request: pytest.FixtureRequest) -> list[GoldenCase]:
    """All cases of one checkpoint."""
    return [case for case in CASES if case.checkpoint == request.param]


@pytest.fixture
def late_engine(cases: list[GoldenCase]) -> Iterator[HiggsAudioEngine]:
    """Three slots, so that requests wait, join, end and move to lower rows while outputs are in flight."""
    with HiggsAudioEngine.from_pretrained(
        str(cases[0].folder), device="cpu", max_batch_size=3, max_context=2048
    ) as engine:
        engine._parts.postprocess._outputs._max_in_flight = STEPS_IN_FLIGHT
        yield engine


def test_every_golden_token_is_reproduced_when_outputs_are_read_late(
    late_engine: HiggsAudioEngine, cases: list[GoldenCase]
) -> None:
    futures = [late_engine.submit(case.sample, case.params) for case in cases]
    for case, future in zip(cases, futures, strict=True):
        case.check(future.result(timeout=PATIENCE))
    assert len(cases) > 3


@pytest.fixture
def launched(late_engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Arguments of every step that is launched."""
    found: list[tuple[int, ...]] = []
    run = late_engine._parts.runner.run
    monkeypatch.setattr(late_engine._parts.runner, "run", lambda *shape: (found.append(shape), run(*shape)))
    return found


def test_an_end_that_is_read_late_wastes_a_few_steps_at_most(
    late_engine: HiggsAudioEngine, cases: list[GoldenCase], launched: list[tuple[int, ...]]
) -> None:
    segments = late_engine.generate(cases[0].sample, cases[0].params).delayed_audio_columns
    needed = sum(columns.shape[1] - 1 for columns in segments)  # no step samples the synthetic column
    assert needed <= len(launched) <= needed + STEPS_IN_FLIGHT * len(segments)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_a_request_that_its_cap_cuts_wastes_no_step(
    late_engine: HiggsAudioEngine, cases: list[GoldenCase], launched: list[tuple[int, ...]], steps: int
) -> None:
    result = late_engine.generate(cases[0].sample, GenerationParams(max_new_tokens=steps, temperature=0.0))
    assert result.finish_reason == "length"
    assert result.delayed_audio_columns[0].shape[1] == steps
    assert len(launched) == steps - 1
