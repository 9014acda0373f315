"""Prompts prefilled together, prefixes that several of them share, and text that many write at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.engine import GenerationFuture
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.runtime.prefill import PREFILL_CHUNK
from higgs_core.sampling.text_state import TEXT_LANES
from tests.golden import CASES, CHECKPOINTS, GoldenCase
from tests.helpers.patience import PATIENCE

SLOTS = 12  # more than the lanes of a text step


@pytest.fixture(params=CHECKPOINTS)
def cases(request: pytest.FixtureRequest) -> list[GoldenCase]:
    return [case for case in CASES if case.checkpoint == request.param]


@pytest.fixture
def engine(cases: list[GoldenCase]) -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained(
        str(cases[0].folder), device="cpu", max_batch_size=SLOTS, max_context=2048
    ) as made:
        yield made


@pytest.fixture
def prefills(engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """(slot, positions) of each span of each prefill."""
    found: list[list[tuple[int, int]]] = []
    original = engine._parts.decoder.prefill

    def prefill(spans: Sequence[PromptSpan]) -> None:
        found.append([(span.slot, span.length) for span in spans])
        original(spans)

    monkeypatch.setattr(engine._parts.decoder, "prefill", prefill)
    return found


def submit_together(
    engine: HiggsAudioEngine, requests: Sequence[tuple[ChatMLSample, GenerationParams]], monkeypatch: pytest.MonkeyPatch
) -> list[GenerationFuture]:
    """The engine's thread goes on when all are submitted, so that they get their slots in the same turn."""
    run, all_there = engine._parts.work.run, threading.Event()

    def held() -> Any:
        all_there.wait(PATIENCE)
        yield from run()

    monkeypatch.setattr(engine._parts.work, "run", held)
    blocker = engine.submit(requests[0][0], GenerationParams(max_new_tokens=1))
    futures = [engine.submit(sample, params) for sample, params in requests]
    all_there.set()
    blocker.result(timeout=PATIENCE)
    return futures


def test_prompts_prefilled_together_give_the_tokens_they_give_alone(
    engine: HiggsAudioEngine,
    cases: list[GoldenCase],
    prefills: list[list[tuple[int, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    futures = submit_together(engine, [(case.sample, case.params) for case in cases], monkeypatch)
    for case, future in zip(cases, futures, strict=True):
        case.check(future.result(timeout=PATIENCE))
    assert max(len(spans) for spans in prefills) >= min(len(cases), SLOTS) - 3
    assert all(sum(length for _, length in spans) <= PREFILL_CHUNK for spans in prefills)


def test_how_a_prompt_is_cut_does_not_depend_on_its_company(
    engine: HiggsAudioEngine,
    cases: list[GoldenCase],
    prefills: list[list[tuple[int, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = GenerationParams(max_new_tokens=2, seed=1)
    samples = [ChatMLSample([Message("user", "word " * count)]) for count in (3, 260, 5, 150, 150)]
    alone = []
    for sample in samples:
        engine.generate(sample, params)
        alone.append([length for spans in prefills for _, length in spans])
        prefills.clear()
    for future in submit_together(engine, [(sample, params) for sample in samples], monkeypatch):
        future.result(timeout=PATIENCE)
    together = sorted(length for spans in prefills for _, length in spans)
    assert together == sorted(length for lengths in [alone[0], *alone] for length in lengths)  # one held the others
    assert max(max(lengths) for lengths in alone) == PREFILL_CHUNK


def test_a_prefix_that_several_share_is_prefilled_once(
    engine: HiggsAudioEngine, prefills: list[list[tuple[int, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They arrive together, and the others wait for the first of them."""
    clip = AudioContent(codes=np.arange(8 * 30).reshape(8, 30) % 1000)
    turns = [Message("user", "A clip."), Message("assistant", clip)]
    params = GenerationParams(max_new_tokens=12, temperature=1.0, seed=3)
    samples = [ChatMLSample([*turns, Message("user", f"Number {number}.")]) for number in range(5)]
    futures = submit_together(engine, [(sample, params) for sample in samples], monkeypatch)
    together = [future.result(timeout=PATIENCE) for future in futures]
    long_spans = [length for spans in prefills for _, length in spans if length > 39]
    assert len(long_spans) == 1
    assert [result.usage["cached_tokens"] > 39 for result in together] == [True] * 5  # the blocker was the first
    for sample, result in zip(samples, together, strict=True):
        alone = engine.generate(sample, params)
        assert alone.delayed_audio_columns[0].tolist() == result.delayed_audio_columns[0].tolist()


def test_more_requests_than_lanes_write_text_and_each_gets_its_own(
    engine: HiggsAudioEngine, cases: list[GoldenCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = [case for case in cases if not case.params.force_audio_gen]
    assert writing
    chosen = [writing[number % len(writing)] for number in range(SLOTS - 1)]
    futures = submit_together(engine, [(case.sample, case.params) for case in chosen], monkeypatch)
    for case, future in zip(chosen, futures, strict=True):
        case.check(future.result(timeout=PATIENCE))
    assert len(chosen) > TEXT_LANES
    assert not engine._parts.runner._text.active.any()
    assert (engine._parts.runner._text.position == engine._parts.decoder.cache.dummy_position).all()


def test_text_that_is_sampled_depends_on_its_seed_alone(
    engine: HiggsAudioEngine, cases: list[GoldenCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = [
        GenerationParams(max_new_tokens=40, temperature=1.0, top_k=None, seed=seed, force_audio_gen=False)
        for seed in range(SLOTS - 1)
    ]
    sample = cases[0].sample
    alone = [engine.generate(sample, each) for each in params]
    futures = submit_together(engine, [(sample, each) for each in params], monkeypatch)
    together = [future.result(timeout=PATIENCE) for future in futures]
    assert [result.text_token_ids for result in together] == [result.text_token_ids for result in alone]
    assert len({tuple(result.text_token_ids) for result in alone}) > 5
