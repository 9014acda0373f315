"""The engine gives every token that Boson's engine gave: alone, in company, and joining at random steps."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.engine import GenerationFuture
from tests.golden import CASES, CHECKPOINTS, FOLDER, GoldenCase
from tests.helpers.patience import wait_until


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, HiggsAudioEngine]]:
    made = {
        name: HiggsAudioEngine.from_pretrained(str(FOLDER / name), device="cpu", max_context=2048)
        for name in CHECKPOINTS
    }
    yield made
    for engine in made.values():
        engine.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_token_is_reproduced(case: GoldenCase, engines: dict[str, HiggsAudioEngine]) -> None:
    case.check(engines[case.checkpoint].generate(case.sample, case.params))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_segments_that_ended_decode_to_bosons_codes(case: GoldenCase, engines: dict[str, HiggsAudioEngine]) -> None:
    result = engines[case.checkpoint].generate(case.sample, case.params)
    expected = case.raw["decode_codes"]
    ended = result.text_token_ids.count(engines[case.checkpoint]._parts.tokenizer.control.audio_eos)
    for codes, boson in list(zip(result.audio_codes, expected, strict=True))[:ended]:
        assert codes.tolist() == (boson if boson is not None else [[]] * 8)
    for codes, boson in list(zip(result.audio_codes, expected, strict=True))[ended:]:
        # Cut by the cap: Boson's slice drops the last complete frame, this engine keeps it.
        assert codes[:, : len(boson[0]) if boson else 0].tolist() == (boson or [[]] * 8)
        assert codes.shape[1] <= (len(boson[0]) if boson else 0) + 1


@pytest.mark.parametrize("in_flight", [3, 8])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_requests_that_join_at_random_steps_get_the_tokens_they_get_alone(
    checkpoint: str, in_flight: int, engines: dict[str, HiggsAudioEngine]
) -> None:
    """The engine's own thread submits the next request after a drawn number of steps, so the company is no accident."""
    engine, draw = engines[checkpoint], random.Random(in_flight)
    slots, decode_step = engine._parts.slots, engine._parts.decode_step
    cases = [case for case in CASES if case.checkpoint == checkpoint]
    left = draw.sample(cases * 2, len(cases) * 2)
    running: list[tuple[GoldenCase, GenerationFuture]] = []
    company, wait = 0, 0
    step = decode_step.launch

    def step_and_join() -> None:
        nonlocal company, wait
        step()
        company, wait = max(company, len(slots.occupied)), wait - 1
        if left and wait <= 0 and sum(not future.done() for _, future in running) < in_flight:
            case = left.pop()
            running.append((case, engine.submit(case.sample, case.params)))
            wait = draw.randint(0, 3)

    def all_ended() -> bool:
        if not left:
            return all(future.done() for _, future in running)
        if all(future.done() for _, future in running):  # the engine's thread sleeps and lets nobody join
            case = left.pop()
            running.append((case, engine.submit(case.sample, case.params)))
        return False

    decode_step.launch = step_and_join  # type: ignore[method-assign]
    try:
        first = left.pop()
        running.append((first, engine.submit(first.sample, first.params)))
        wait_until(all_ended)
    finally:
        decode_step.launch = step  # type: ignore[method-assign]
    for case, future in running:
        case.check(future.result())
    assert len(running) == 2 * len(cases)
    assert company >= in_flight


def test_a_context_of_earlier_segments_reaches_ras_as_columns(engines: dict[str, HiggsAudioEngine]) -> None:
    """The RAS window starts with the assistant's clip and the synthetic column, newest last."""
    case = next(case for case in CASES if case.raw["name"] == "clone")
    engine = engines[case.checkpoint]
    seen = []
    original = engine._parts.state.begin_segment

    def spy(slot: int, history: object, position: int, step: int) -> None:
        seen.append(history)
        original(slot, history, position, step)  # type: ignore[arg-type]

    object.__setattr__(engine._parts.state, "begin_segment", spy)
    try:
        engine.generate(case.sample, case.params)
    finally:
        object.__setattr__(engine._parts.state, "begin_segment", original)
    clip = np.array(case.raw["audio_codes"][0])
    first = seen[0].numpy()  # type: ignore[attr-defined]
    assert first.shape[1] == clip.shape[1] + 9 + 1
    assert (first[:, -1] == 1024).all()
    assert first[0, 1 : 1 + clip.shape[1]].tolist() == clip[0].tolist()
