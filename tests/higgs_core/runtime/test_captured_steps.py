"""Which steps are captured, when, and what happens where that fails; a capturer that counts stands for the card."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks.models import SMALLEST, random_parts
from higgs_core import GenerationParams, HiggsAudioEngine
from higgs_core.runtime.cuda_graph import CudaGraphs
from higgs_core.runtime.decode_graph import StepRunner
from tests.golden import CASES, CHECKPOINTS, GoldenCase
from tests.helpers.patience import PATIENCE

Work = Callable[[], None]


class CountingCapturer:
    """Captures nothing: a replay runs the work again. fails: numbers of the captures that fail."""

    def __init__(self, fails: range = range(0)) -> None:
        self.fails = fails
        self.captures = 0
        self.replays: list[int] = []  # the number of the capture

    def capture(self, work: Work) -> Work:
        number = self.captures
        self.captures += 1
        if number in self.fails:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

        def replay() -> None:
            self.replays.append(number)
            work()

        return replay


def capture_with(engine: HiggsAudioEngine, capturer: CountingCapturer) -> CountingCapturer:
    engine._parts.runner._capturer = capturer
    return capturer


@pytest.fixture(params=CHECKPOINTS)
def cases(request: pytest.FixtureRequest) -> list[GoldenCase]:
    return [case for case in CASES if case.checkpoint == request.param]


@pytest.fixture
def engine(cases: list[GoldenCase]) -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained(
        str(cases[0].folder), device="cpu", max_batch_size=3, max_context=2048
    ) as made:
        yield made


def check_all(engine: HiggsAudioEngine, cases: list[GoldenCase]) -> None:
    futures = [engine.submit(case.sample, case.params) for case in cases]
    for case, future in zip(cases, futures, strict=True):
        case.check(future.result(timeout=PATIENCE))


def test_no_traffic_captures_anything_after_boot(engine: HiggsAudioEngine, cases: list[GoldenCase]) -> None:
    """Every golden case, alone and in company: segments, text between them, rows that join, end and move."""
    capturer = capture_with(engine, CountingCapturer())
    engine.warm_up()
    assert capturer.captures == 3 + 1  # decode steps of 1, 2 and 3 rows, a text step of 3
    for case in cases:
        case.check(engine.generate(case.sample, case.params))
    check_all(engine, cases)
    long_prompt = GenerationParams(max_new_tokens=4, temperature=1.0, top_k=None, seed=1)
    engine.generate(cases[0].sample, long_prompt)
    engine.warm_up()
    assert capturer.captures == 3 + 1
    assert set(capturer.replays) == set(range(4))  # each was needed


def test_the_first_request_waits_for_the_captures_of_an_engine_that_was_not_warmed_up(
    engine: HiggsAudioEngine, cases: list[GoldenCase]
) -> None:
    capturer = capture_with(engine, CountingCapturer())
    cases[0].check(engine.generate(cases[0].sample, cases[0].params))
    assert capturer.captures == 4
    assert capturer.replays


@pytest.mark.parametrize("fails", [range(1), range(1, 2), range(3, 4), range(4)])
def test_a_step_that_cannot_be_captured_runs_all_the_same(
    engine: HiggsAudioEngine, cases: list[GoldenCase], fails: range, caplog: pytest.LogCaptureFixture
) -> None:
    capturer = capture_with(engine, CountingCapturer(fails))
    with caplog.at_level(logging.WARNING, logger="higgs_core"):
        engine.warm_up()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "could not be captured" in caplog.text
    check_all(engine, cases)
    assert capturer.captures == 4
    assert set(capturer.replays) == set(range(4)) - set(fails)


@pytest.mark.parametrize(
    ("slots", "decode", "text"),
    [
        (1, [1], [1]),
        (5, [1, 2, 4, 5], [5]),
        (8, [1, 2, 4, 8], [8]),
        (32, [1, 2, 4, 8, 16, 32], [8, 32]),
        (256, [1, 2, 4, 8, 16, 32, 128, 256], [8, 256]),
    ],
)
def test_a_handful_of_steps_covers_every_number_of_rows(slots: int, decode: list[int], text: list[int]) -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=slots, context=64)
    runner = parts.runner
    runner._capturer = CountingCapturer()
    assert sorted({runner.batch_rows(rows) for rows in range(1, slots + 1)}) == decode
    assert all(runner.batch_rows(rows) >= rows for rows in range(1, slots + 1))
    with torch.inference_mode():
        assert runner.prepare() == len(decode) + len(text)
    assert sorted(runner._graphs) == decode
    assert sorted(runner._text_graphs) == text


def test_capturing_leaves_the_state_as_it_was() -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=4, context=64)
    runner: StepRunner = parts.runner
    runner._capturer = CountingCapturer(fails=range(1, 3))
    before = [parts.state.column.clone(), parts.state.window.clone(), parts.state.emitted.clone()]
    with torch.inference_mode():
        runner.prepare()
    after = [parts.state.column, parts.state.window, parts.state.emitted]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not parts.state.active.any()
    assert (parts.state.position == parts.decoder.cache.dummy_position).all()
    assert not parts.decoder.cache._all[..., : parts.decoder.cache.context, :].any()  # only the dummy was written


def test_a_checkpoint_without_a_text_head_has_no_text_steps() -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=2, context=64, text_head=False)
    parts.runner._capturer = CountingCapturer()
    with torch.inference_mode():
        assert parts.runner.prepare() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures CUDA graphs")
@pytest.mark.parametrize("reads_on_the_host", [False, True])
def test_a_capture_that_fails_on_a_gpu_leaves_the_stream_usable(reads_on_the_host: bool) -> None:
    """An error of Python's, and an operation that breaks the capture; in both cases another capture succeeds."""
    graphs, counter = CudaGraphs(), torch.zeros(1, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream(priority=-1)):
        stream = torch.cuda.current_stream()

        def fails() -> None:
            counter.add_(1)
            if reads_on_the_host:
                counter.item()
            raise ValueError

        for _ in range(2):
            with pytest.raises((ValueError, RuntimeError)):
                graphs.capture(fails)
            assert torch.cuda.current_stream() == stream
            assert not torch.cuda.is_current_stream_capturing()
            counter.zero_()
            replay = graphs.capture(lambda: (counter + torch.ones_like(counter), counter.add_(1)))
            replay()
            replay()
            assert counter.item() == 2
