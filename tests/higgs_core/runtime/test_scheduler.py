"""Continuous batching: nobody harms a neighbour, nothing is left behind, and nobody waits for ever."""

from __future__ import annotations

import ctypes
import random
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.errors import BusyError, EngineStoppedError, GenerationCancelled, PromptTooLongError, RequestError
from higgs_core.kernels import select_ops
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler
from tests.helpers.patience import PATIENCE, wait_until

HELLO = ChatMLSample([Message("user", "Hello there, listen to this.")])


@pytest.fixture(scope="module")
def long_seed(tiny_engine: HiggsAudioEngine) -> int:
    """A seed with which HELLO goes on for a while."""
    for seed in range(40):
        result = tiny_engine.generate(HELLO, GenerationParams(max_new_tokens=120, temperature=1.0, seed=seed))
        if result.finish_reason == "length":
            return seed
    raise AssertionError("no seed speaks for 120 steps")


@pytest.fixture
def engine() -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained(
        "tiny", device="cpu", max_batch_size=4, max_context=2048, max_waiting=6
    ) as made:
        yield made


def test_the_same_seed_gives_the_same_codes_whatever_the_batch_size(tiny_engine: HiggsAudioEngine) -> None:
    params = [GenerationParams(max_new_tokens=60, temperature=t, seed=7 + i) for i, t in enumerate((0.3, 1.0, 0.7))]
    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=1024) as single:
        alone = [single.generate(HELLO, p) for p in params]
    together = [future.result(timeout=PATIENCE) for future in [tiny_engine.submit(HELLO, p) for p in params]]
    for one, other in zip(alone, together, strict=True):
        assert [c.tolist() for c in one.audio_codes] == [c.tolist() for c in other.audio_codes]
        assert one.seed == other.seed


def test_a_seed_is_drawn_and_reported_and_replays(tiny_engine: HiggsAudioEngine) -> None:
    params = GenerationParams(max_new_tokens=40, temperature=1.0)
    first, second = tiny_engine.generate(HELLO, params), tiny_engine.generate(HELLO, params)
    assert first.seed != second.seed
    replay = tiny_engine.generate(HELLO, GenerationParams(max_new_tokens=40, temperature=1.0, seed=first.seed))
    assert [c.tolist() for c in replay.audio_codes] == [c.tolist() for c in first.audio_codes]


def test_two_hundred_requests_with_random_cancels_leave_nothing_behind() -> None:
    threads_before = threading.active_count()
    draw = random.Random(3)
    clip = np.sin(np.arange(24_000) / 20).astype(np.float32)
    samples = [
        HELLO,
        ChatMLSample([Message("user", "a"), Message("assistant", AudioContent(waveform=clip)), Message("user", "b")]),
        ChatMLSample([Message("system", "Be kind."), Message("user", "word " * 60)]),
    ]
    engine = HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=6, max_context=1024, max_waiting=200)
    futures = []
    for number in range(200):
        params = GenerationParams(
            max_new_tokens=draw.choice((1, 2, 9, 30)), temperature=draw.choice((0.0, 0.5, 1.0)), seed=number
        )
        futures.append(engine.submit(draw.choice(samples), params))
        if draw.random() < 0.4:
            draw.choice(futures).cancel()
    ended = cancelled = 0
    for future in futures:
        try:
            result = future.result(timeout=PATIENCE)
            ended += 1
            assert result.finish_reason in ("stop", "length")
        except CancelledError:
            cancelled += 1
    assert ended + cancelled == 200
    assert cancelled > 10
    wait_until(lambda: engine.stats()["active"] == 0 and engine.stats()["waiting"] == 0)
    parts = engine._parts
    assert parts.slots.occupied == []
    assert not parts.postprocess.pending
    assert not engine._scheduler._cancelled
    assert not parts.state.active.any()
    assert (parts.state.position == parts.decoder.cache.dummy_position).all()
    engine.close()
    assert threading.active_count() == threads_before


def test_a_cancelled_request_stops_within_eight_steps(engine: HiggsAudioEngine, long_seed: int) -> None:
    postprocess = engine._parts.postprocess
    seen: dict[str, int] = {}
    original = postprocess._add_column

    def counting(generation, column, status) -> None:  # type: ignore[no-untyped-def]
        original(generation, column, status)
        if generation.step == 20:
            seen["cancelled_at"] = generation.step
            engine._scheduler.cancel(generation)
        seen["last"] = generation.step

    postprocess._add_column = counting  # type: ignore[method-assign]
    future = engine.submit(HELLO, GenerationParams(max_new_tokens=1500, temperature=1.0, seed=long_seed))
    with pytest.raises(GenerationCancelled):
        future.result(timeout=PATIENCE)
    assert seen["last"] - seen["cancelled_at"] <= 8
    assert engine.stats()["active"] == 0


def test_the_waiting_queue_is_bounded_and_says_so(engine: HiggsAudioEngine) -> None:
    params = GenerationParams(max_new_tokens=1500, temperature=1.0, seed=5)
    release = threading.Event()
    decode_step = engine._parts.decode_step
    original = decode_step.launch

    def held() -> None:
        release.wait(PATIENCE)
        original()

    decode_step.launch = held  # type: ignore[method-assign]
    futures = []
    try:
        for _ in range(4 + 6):  # slots and places
            futures.append(engine.submit(HELLO, params))
        with pytest.raises(BusyError, match="busy"):
            engine.submit(HELLO, params)
    finally:
        release.set()
        for future in futures:
            future.cancel()
    wait_until(lambda: engine.stats()["active"] == 0 and engine.stats()["waiting"] == 0)
    assert engine.generate(HELLO, GenerationParams(max_new_tokens=4, seed=1)).finish_reason == "length"


def test_a_request_that_fails_does_not_harm_its_neighbours(engine: HiggsAudioEngine) -> None:
    params = GenerationParams(max_new_tokens=60, temperature=1.0, seed=11)
    alone = engine.generate(HELLO, params)
    good = engine.submit(HELLO, params)
    with pytest.raises(PromptTooLongError, match="context"):
        engine.submit(ChatMLSample([Message("user", "x" * 5000)]), params)
    with pytest.raises(RequestError, match=r"0\.\.1023"):
        engine.submit(ChatMLSample([Message("assistant", AudioContent(codes=np.full((8, 4), 1024)))]), params)
    assert [c.tolist() for c in good.result(timeout=PATIENCE).audio_codes] == [c.tolist() for c in alone.audio_codes]


def test_a_prompt_that_is_refused_gives_its_place_in_the_queue_back(engine: HiggsAudioEngine) -> None:
    refused = ChatMLSample([Message("assistant", AudioContent(codes=np.full((8, 4), 1024)))])
    for _ in range(4 + 6 + 1):  # slots, places and one more
        with pytest.raises(RequestError, match=r"0\.\.1023"):
            engine.submit(refused)
        with pytest.raises(RequestError, match=r"0\.\.1023"):
            engine.stream(refused)
    assert engine.stats()["waiting"] == 0
    assert engine.generate(HELLO, GenerationParams(max_new_tokens=4, seed=1)).finish_reason == "length"


def test_an_identical_prefix_is_reused_and_changes_nothing(engine: HiggsAudioEngine) -> None:
    clip = AudioContent(waveform=np.sin(np.arange(48_000) / 25).astype(np.float32))
    sample = ChatMLSample([Message("user", "one"), Message("assistant", clip), Message("user", "two")])
    params = GenerationParams(max_new_tokens=50, temperature=1.0, seed=3)
    first, second = engine.generate(sample, params), engine.generate(sample, params)
    assert first.usage["cached_tokens"] == 0
    assert second.usage["cached_tokens"] > 2 * 25
    assert [c.tolist() for c in first.delayed_audio_columns] == [c.tolist() for c in second.delayed_audio_columns]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the kill itself
def test_a_killed_engine_thread_turns_waiting_requests_into_errors(engine: HiggsAudioEngine, long_seed: int) -> None:
    params = GenerationParams(max_new_tokens=1500, temperature=1.0, seed=long_seed)
    decode_step = engine._parts.decode_step
    original, launching, go_on = decode_step.launch, threading.Event(), threading.Event()

    def held_launch() -> None:
        launching.set()
        go_on.wait(PATIENCE)
        original()

    decode_step.launch = held_launch  # type: ignore[method-assign]
    futures = [engine.submit(HELLO, params) for _ in range(8)]
    assert launching.wait(PATIENCE)
    thread = engine._scheduler._thread
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    go_on.set()  # the exception is raised as soon as the thread runs Python again
    thread.join(timeout=PATIENCE)
    assert not thread.is_alive()
    for future in futures:
        with pytest.raises(EngineStoppedError):
            future.result(timeout=PATIENCE)
    assert not engine.healthy
    with pytest.raises(EngineStoppedError):
        engine.submit(HELLO, params)


def test_an_error_in_the_step_ends_every_request_and_the_engine(engine: HiggsAudioEngine) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine._parts.runner.run = broken  # type: ignore[method-assign]
    future = engine.submit(HELLO, GenerationParams(max_new_tokens=30, seed=1))
    with pytest.raises(EngineStoppedError) as caught:
        future.result(timeout=PATIENCE)
    assert "illegal" not in str(caught.value)
    assert caught.value.recycle_worker
    wait_until(lambda: not engine.healthy)


def test_a_device_that_fails_while_a_slot_is_freed_leaves_nobody_waiting(
    engine: HiggsAudioEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    futures = [engine.submit(HELLO, GenerationParams(max_new_tokens=300, temperature=1.0, seed=s)) for s in (1, 2)]
    wait_until(lambda: all(future.columns_generated for future in futures))
    monkeypatch.setattr(DecodeState, "deactivate", broken)
    for future in futures:
        with pytest.raises(EngineStoppedError):
            future.result(timeout=PATIENCE)


def test_a_warm_up_that_fails_says_so(engine: HiggsAudioEngine) -> None:
    def broken() -> int:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    engine._parts.runner.prepare = broken  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool, pytest.raises(EngineStoppedError):
        pool.submit(engine.warm_up).result(timeout=PATIENCE)
    assert not engine.healthy


class ForbidHostReads(TorchDispatchMode):
    """Counts operations that bring a tensor's value to the host."""

    READS = ("_local_scalar_dense", "is_nonzero", "item", "nonzero", "equal", "_to_cpu")

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        if any(read in name for read in self.READS):
            self.reads.append(name)
        return func(*args, **(kwargs or {}))


def test_a_decode_step_never_reads_a_tensor_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the operations that a GPU runs; the sampler of a CPU may look at values."""
    monkeypatch.setattr(select_ops, "CandidateSampler", Sampler)
    with HiggsAudioEngine.from_pretrained("tiny", None, device="cpu", max_batch_size=4, max_context=256) as engine:
        runner, state = engine._parts.runner, engine._parts.state
        with torch.inference_mode():
            for slot in range(3):
                state.begin(slot, GenerationParams(temperature=0.5 * slot, seed=slot), slot)
                state.begin_segment(slot, torch.full((8, 1), 1024), 10 * slot + 1, 1)
            runner.run(3, 64, 64)  # lazily made constants come to be outside the count
            with ForbidHostReads() as watch:
                for _ in range(12):
                    runner.run(3, 64, 64)
    assert watch.reads == []


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 25])
def test_a_request_takes_the_steps_that_it_may_and_no_more(
    engine: HiggsAudioEngine, long_seed: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    run = engine._parts.runner.run
    monkeypatch.setattr(engine._parts.runner, "run", lambda *shape: (ran.append(shape), run(*shape)))
    result = engine.generate(HELLO, GenerationParams(max_new_tokens=steps, temperature=1.0, seed=long_seed))
    assert result.finish_reason == "length"
    assert result.delayed_audio_columns[0].shape == (8, steps)
    assert len(ran) == steps - 1  # no step samples the synthetic column
