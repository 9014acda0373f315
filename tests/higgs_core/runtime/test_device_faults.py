"""A device that fails in prefill, in a step or in the codec: no result leaves, everybody is told, the engine is dead.

The errors are those that torch, CUDA's libraries and Triton raise, from where the device's work is.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.built_in import BUILT_IN
from higgs_core.checkpoint.built_in_files import built_in_folders
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, HiggsError
from tests.helpers.patience import PATIENCE, wait_until
from tests.higgs_core.failures.test_device_failure import POISONED

HELLO = ChatMLSample([Message("user", "Hello there, listen to this.")])
CLIP = ChatMLSample([Message("assistant", AudioContent(waveform=np.zeros(24_000, np.float32))), Message("user", "Hi.")])
LONG = GenerationParams(max_new_tokens=300, temperature=1.0, seed=0)
SHORT = GenerationParams(max_new_tokens=30, temperature=1.0, seed=0)

PLACES = {
    "prefill": ("decoder", "prefill"),
    "decode step": ("runner", "run"),
    "captured step": ("runner", "_step"),
    "output": ("postprocess", "collect"),
    "cleared slot": ("state", "deactivate"),
    "kept prefix": ("prefixes", "fetch"),
    "codec's decode": ("codec", "decode"),
    "codec's encode": ("codec", "encode"),
}


@pytest.fixture
def engine() -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=3, max_context=1024) as made:
        made.generate(HELLO, SHORT)
        yield made


def fail(engine: HiggsAudioEngine, place: str, error: BaseException, times: int = 10**9) -> threading.Event:
    """Raise the error from the place, so many times; the event says that it was."""
    part, name = PLACES[place]
    owner = getattr(engine._parts, part)
    call, raised, left = getattr(owner, name), threading.Event(), [times]

    def failing(*arguments: Any) -> Any:
        if not left[0]:
            return call(*arguments)
        left[0] -= 1
        raised.set()
        raise error

    if name == "deactivate":
        engine._parts.slots._state = _Replaced(owner, name, failing)  # type: ignore[assignment]
    else:
        setattr(owner, name, failing)
    return raised


class _Replaced:
    """An object with another function in place of one of its own, for one that takes none."""

    def __init__(self, owner: Any, name: str, function: Any) -> None:
        self._owner, self._name, self._function = owner, name, function

    def __getattr__(self, name: str) -> Any:
        return self._function if name == self._name else getattr(self._owner, name)


def outcomes(engine: HiggsAudioEngine, sample: ChatMLSample, pool: ThreadPoolExecutor) -> list[BaseException | None]:
    """Of two requests and two streams, all at once, more than there are slots."""

    def stream() -> None:
        with engine.stream(sample, LONG) as chunks:
            list(chunks)

    asked: list[Future[Any]] = [pool.submit(stream) for _ in range(2)]
    asked += [pool.submit(engine.generate, sample, LONG) for _ in range(2)]
    return [each.exception(PATIENCE) for each in asked]


@pytest.mark.parametrize(("place", "error"), list(zip(PLACES, POISONED, strict=False)), ids=str)
def test_after_a_poisoned_context_no_result_leaves(engine: HiggsAudioEngine, place: str, error: Exception) -> None:
    raised = fail(engine, place, error)
    with ThreadPoolExecutor() as pool:
        found = outcomes(engine, CLIP if "encode" in place else HELLO, pool)
    assert raised.is_set()
    for each in found:
        assert isinstance(each, EngineStoppedError)
        assert each.recycle_worker
        assert "CUDA" not in each.message
    assert len({str(each) for each in found}) == 1, "one sentence for all"
    assert not engine.healthy
    with pytest.raises(EngineStoppedError):
        engine.submit(HELLO)
    assert engine.close()


@pytest.mark.parametrize("place", ["codec's decode", "codec's encode"])
@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("shapes differ"), StopIteration(), AssertionError()])
def test_a_jobs_own_error_in_the_codec_fails_it_alone(engine: HiggsAudioEngine, place: str, error: Exception) -> None:
    sample = CLIP if "encode" in place else HELLO
    fail(engine, place, error, times=1)
    with pytest.raises(HiggsError) as caught:
        engine.generate(sample, SHORT)
    assert type(caught.value) is HiggsError
    assert not caught.value.recycle_worker
    assert engine.healthy
    assert engine.generate(sample, SHORT).audio is not None


@pytest.mark.parametrize(
    ("place", "attempts"), [("prefill", 2), ("decode step", 2), ("codec's decode", 1), ("codec's encode", 1)]
)
def test_memory_that_runs_out_for_good_fails_the_request_and_the_next_one_is_spoken(
    engine: HiggsAudioEngine, place: str, attempts: int
) -> None:
    sample = CLIP if "encode" in place else HELLO
    expected = engine.generate(sample, SHORT).audio_codes[0].tolist()
    engine._parts.prefixes.clear()
    engine._parts.codec._codes.clear()  # type: ignore[union-attr]
    fail(engine, place, torch.OutOfMemoryError("CUDA out of memory."), times=attempts)
    with pytest.raises(DeviceMemoryError):
        engine.generate(sample, SHORT)
    assert engine.healthy
    wait_until(lambda: engine.stats()["active"] == 0)
    assert engine.generate(sample, SHORT).audio_codes[0].tolist() == expected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death itself
@pytest.mark.parametrize("whose", ["_scheduler", "_codec"])
def test_a_thread_that_is_ended_from_outside_ends_the_engine_for_everybody(
    engine: HiggsAudioEngine, whose: str
) -> None:
    told = threading.Event()
    engine.on_failure(lambda _: told.set())
    thread = getattr(engine, whose)._thread
    with engine.stream(HELLO, LONG) as stream:
        next(stream)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        while not told.is_set():  # it is delivered when the thread runs Python again
            with suppress(EngineStoppedError):
                engine.generate(HELLO, SHORT)
        with pytest.raises(EngineStoppedError):
            list(stream)
    with pytest.raises(EngineStoppedError):
        engine.submit(HELLO)
    assert not engine.healthy


def test_a_model_folder_that_vanishes_after_the_load_changes_nothing() -> None:
    with built_in_folders(BUILT_IN["tiny"]) as (model, codec):
        made = HiggsAudioEngine.from_pretrained(str(model), str(codec), device="cpu", max_context=1024)
    assert not model.exists()
    assert not codec.exists()
    with made as engine:
        assert engine.generate(CLIP, SHORT).audio is not None
        assert engine.count_tokens("Words that were not tokenised before.") > 0
        writing = GenerationParams(max_new_tokens=40, force_audio_gen=False, seed=0)
        assert engine.generate(HELLO, writing).text_token_ids
