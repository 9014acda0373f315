"""Memory that runs out in prefill or in a step costs as few requests as it must, and the others get their tokens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from higgs_core import GenerationParams, GenerationResult, HiggsAudioEngine
from higgs_core.engine import GenerationFuture
from higgs_core.errors import DeviceMemoryError, EngineStoppedError
from higgs_core.failures.watchdog import Heartbeat
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.runtime.device_work import DeviceWork
from higgs_core.runtime.text_step import TextStep
from higgs_core.sampling.text_state import TEXT_LANES
from tests.golden import CASES, GoldenCase
from tests.helpers.patience import PATIENCE

OPERATIONS = 140
"""Operations of a step that need memory, about."""

CHECKPOINT = [case for case in CASES if case.checkpoint == CASES[0].checkpoint]


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")


class FailAt(TorchDispatchMode):
    """The n-th operation that needs memory finds none. Operations in place and views need none."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if not (func._schema.is_mutable or func.is_view):
            if self.left == 0:
                raise out_of_memory()
            self.left -= 1
        return func(*args, **(kwargs or {}))


def failing(original: Callable[..., None], operation: Callable[[], int | None]) -> Callable[..., None]:
    """`original`, which runs out of memory at an operation, counted from its start; None lets it pass."""

    def run(*args: Any) -> None:
        at = operation()
        if at is None:
            original(*args)
            return
        with FailAt(at):
            original(*args)

    return run


@pytest.fixture
def engine() -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained(
        str(CHECKPOINT[0].folder), device="cpu", max_batch_size=3, max_context=2048
    ) as made:
        yield made


@pytest.mark.parametrize("step", ["_step", "_text_step"])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_that_failed_anywhere_and_is_tried_again_changes_no_token(
    engine: HiggsAudioEngine, step: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third step or so fails, at a drawn operation between its first and its last."""
    draw, failed = random.Random(seed), 0
    again = False

    def operation() -> int | None:
        nonlocal failed, again
        if again or draw.random() < 0.6:
            again = False
            return None
        again, failed = True, failed + 1
        return draw.randrange(OPERATIONS)

    monkeypatch.setattr(engine._parts.runner, step, failing(getattr(engine._parts.runner, step), operation))
    futures = [engine.submit(case.sample, case.params) for case in CHECKPOINT]
    for case, future in zip(CHECKPOINT, futures, strict=True):
        case.check(future.result(timeout=PATIENCE))
    assert failed > 20


def test_the_drawn_operations_reach_to_the_end_of_a_step(engine: HiggsAudioEngine) -> None:
    """Or the test above would leave the step's tail out."""
    with torch.inference_mode():
        for step in (lambda: engine._parts.runner.run(1, 64, 64), lambda: engine._parts.runner.run_text(1, 64)):
            step()
            with FailAt(10**6) as counter:
                step()
            assert OPERATIONS / 2 < 10**6 - counter.left <= OPERATIONS


def long_ones() -> list[GenerationParams]:
    """Three requests of one case that speak for some time, not alike."""
    return [GenerationParams(max_new_tokens=60, temperature=1.0, seed=seed) for seed in (2, 3, 4)]


def results(futures: Sequence[GenerationFuture]) -> list[GenerationResult | Exception]:
    found: list[GenerationResult | Exception] = []
    for future in futures:
        try:
            found.append(future.result(timeout=PATIENCE))
        except Exception as error:
            found.append(error)
    return found


def assert_same(one: GenerationResult | Exception, other: GenerationResult | Exception) -> None:
    assert isinstance(one, GenerationResult)
    assert isinstance(other, GenerationResult)
    assert one.text_token_ids == other.text_token_ids
    columns = zip(one.delayed_audio_columns, other.delayed_audio_columns, strict=True)
    assert all((mine == theirs).all() for mine, theirs in columns)


@pytest.mark.parametrize("victims", [1, 2])
def test_the_newest_requests_pay_when_freeing_memory_is_not_enough(
    engine: HiggsAudioEngine, victims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = long_ones()
    sample = CHECKPOINT[0].sample
    undisturbed = [engine.generate(sample, each) for each in params]
    runner, slots = engine._parts.runner, engine._parts.slots
    original = runner._step

    armed: list[bool] = []

    def short(rows: int, *rest: Any) -> None:
        """From the moment when all have spoken for a while there is memory for a step of the first few alone."""
        if len(slots.speaking) == 3 and all(generation.step > 10 for generation in slots.speaking):
            armed.append(True)
        if armed and len(slots.launchable) > 3 - victims:
            with FailAt(40):
                original(rows, *rest)
        original(rows, *rest)

    monkeypatch.setattr(runner, "_step", short)
    futures = [engine.submit(sample, each) for each in params]
    found = results(futures)
    assert all(isinstance(error, DeviceMemoryError) for error in found[3 - victims :])
    for one, other in zip(undisturbed[: 3 - victims], found, strict=False):
        assert_same(one, other)
    assert engine.healthy
    assert_same(undisturbed[0], results([engine.submit(sample, params[0])])[0])


def test_an_error_of_another_kind_still_ends_the_engine(
    engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine._parts.runner, "_step", broken)
    with pytest.raises(EngineStoppedError):
        engine.submit(CHECKPOINT[0].sample).result(timeout=PATIENCE)


# --- prefill


def submit_together(
    engine: HiggsAudioEngine, cases: Sequence[GoldenCase], monkeypatch: pytest.MonkeyPatch
) -> list[GenerationFuture]:
    """The engine's thread takes none before all are submitted, so that they are prefilled together."""
    work, all_there = engine._parts.work, threading.Event()
    run = work.run

    def held() -> Any:
        all_there.wait(PATIENCE)
        yield from run()

    monkeypatch.setattr(work, "run", held)
    blocker = engine.submit(cases[0].sample, GenerationParams(max_new_tokens=1))
    futures = [engine.submit(case.sample, case.params) for case in cases]
    all_there.set()
    blocker.result(timeout=PATIENCE)
    return futures


def fail_prefill(
    engine: HiggsAudioEngine, fails: Callable[[Sequence[PromptSpan]], bool], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Prefills of which `fails` holds run out of memory in the middle. Returns the number of spans of each prefill."""
    decoder, tried = engine._parts.decoder, []
    original = decoder.prefill

    def prefill(spans: Sequence[PromptSpan]) -> None:
        tried.append(len(spans))
        if fails(spans):
            with FailAt(30):
                original(spans)
        original(spans)

    monkeypatch.setattr(decoder, "prefill", prefill)
    return tried


def test_prompts_that_do_not_fit_together_are_prefilled_one_by_one(
    engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = fail_prefill(engine, lambda spans: len(spans) > 1, monkeypatch)
    cases = CHECKPOINT[:6]
    for case, future in zip(cases, submit_together(engine, cases, monkeypatch), strict=True):
        case.check(future.result(timeout=PATIENCE))
    assert max(tried) > 1
    assert tried.count(1) >= len(cases)


def test_a_prompt_that_does_not_fit_alone_costs_its_request_and_nobody_elses(
    engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in CHECKPOINT if case.params.force_audio_gen][:3]
    unlucky = cases[1].raw["prompt_token_ids"]

    def fails(spans: Sequence[PromptSpan]) -> bool:
        wanted = engine._parts.slots.to_prefill
        slots = {g.slot for g in wanted if g.prompt.token_ids == unlucky}
        return any(span.slot in slots for span in spans)

    fail_prefill(engine, fails, monkeypatch)
    found = results(submit_together(engine, cases, monkeypatch))
    assert isinstance(found[1], DeviceMemoryError)
    for index in (0, 2):
        result = found[index]
        assert isinstance(result, GenerationResult)
        cases[index].check(result)
    assert engine.healthy


def test_a_prefix_that_cannot_be_kept_costs_nothing(engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def store(*_: object) -> None:
        raise out_of_memory()

    monkeypatch.setattr(KVCache, "store", store)
    for case in CHECKPOINT[:4] * 2:
        case.check(engine.generate(case.sample, case.params))
    assert engine.stats()["prefix_hits"] == 0


def test_a_request_that_waits_for_a_lane_does_not_pay_for_a_text_step() -> None:
    """It takes no part in the step that has too little memory, so dropping it would free none."""
    waiting = [
        SimpleNamespace(number=number, timeline=SimpleNamespace(admitted=float(number)), next_text=7, slot=number)
        for number in range(TEXT_LANES + 3)
    ]
    slots = SimpleNamespace(to_read_text=waiting, speaking=[], launchable=[], opened=[], read_text=lambda _: None)
    text, outputs = MagicMock(), MagicMock()
    outputs.reserve.side_effect = out_of_memory()
    text_step: Any = TextStep(slots, text, MagicMock(), outputs)  # type: ignore[arg-type]
    prefill = MagicMock()
    prefill.batches.return_value = []
    work = DeviceWork(slots, MagicMock(), prefill, text_step, MagicMock(), Heartbeat())  # type: ignore[arg-type]
    first, error = next(work.run())
    assert isinstance(error, DeviceMemoryError)
    assert first is waiting[TEXT_LANES - 1]  # type: ignore[comparison-overlap]
