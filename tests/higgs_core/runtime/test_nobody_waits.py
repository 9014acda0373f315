"""Callbacks that fail, threads that end, cancels that race: whoever waits for a request hears of its end.

A callback of a future raises into a log at best, so each is broken here at a place where it calls something else.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from higgs_core import ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.codec.worker import CodecWorker
from higgs_core.engine import GenerationFuture
from higgs_core.errors import EngineStoppedError, GenerationCancelled, HiggsError
from higgs_core.runtime.generation import Segment
from higgs_core.runtime.results import Results
from higgs_core.runtime.streaming import AudioStream, ChunkPlan
from tests.helpers.patience import PATIENCE, wait_until

HELLO = ChatMLSample([Message("user", "Hello there, listen to this.")])
SHORT = GenerationParams(max_new_tokens=40, temperature=1.0, seed=0)
LONG = GenerationParams(max_new_tokens=900, temperature=1.0, seed=0)


@pytest.fixture
def engine() -> Iterator[HiggsAudioEngine]:
    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=2, max_context=1024) as made:
        yield made


def raising(error: BaseException) -> Any:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    return broken


WHOLE: list[tuple[Any, str]] = [(CodecWorker, "decode_joined"), (Segment, "codes"), (Results, "result")]


@pytest.mark.parametrize(("owner", "name"), WHOLE, ids=[name for _, name in WHOLE])
def test_a_defect_behind_a_generation_reaches_its_future_and_no_other(
    engine: HiggsAudioEngine, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising(KeyError("defect")))
        future = engine.submit(HELLO, SHORT)
        assert isinstance(future.exception(PATIENCE), KeyError)
    assert engine.generate(HELLO, SHORT).finish_reason
    assert engine.healthy


STREAM: list[tuple[Any, str]] = [(Segment, "frames"), (ChunkPlan, "ready"), (CodecWorker, "decode")]


@pytest.mark.parametrize(("owner", "name"), STREAM, ids=[name for _, name in STREAM])
@pytest.mark.parametrize("steps", [12, 900], ids=["at its end", "in the middle"])
def test_a_defect_behind_a_streams_columns_reaches_the_stream_and_no_other(
    engine: HiggsAudioEngine, owner: Any, name: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 12 steps nothing is decoded before the generation has ended."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising(KeyError("defect")))
        stream = engine.stream(HELLO, GenerationParams(max_new_tokens=steps, temperature=1.0, seed=0))
        for _ in range(2):  # whoever asks again is told again
            with pytest.raises(HiggsError) as caught:
                list(stream)
            assert not caught.value.recycle_worker
    wait_until(lambda: engine.stats()["active"] == 0)
    assert engine.generate(HELLO, SHORT).finish_reason
    assert engine.healthy


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death itself
@pytest.mark.parametrize(("owner", "name"), [*WHOLE, *STREAM], ids=[name for _, name in [*WHOLE, *STREAM]])
def test_what_ends_a_thread_inside_a_callback_leaves_nobody_waiting(
    engine: HiggsAudioEngine, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ends once all have asked: until then nobody can have a result."""
    reached, all_asked = threading.Event(), threading.Event()

    def broken(*_: Any, **__: Any) -> Any:
        reached.set()
        all_asked.wait(PATIENCE)
        raise SystemExit

    def stream() -> None:
        with engine.stream(HELLO, LONG) as chunks:
            list(chunks)

    monkeypatch.setattr(owner, name, broken)
    with ThreadPoolExecutor() as pool:

        def streams() -> list[Future[Any]]:
            return [pool.submit(stream)]

        def wholes() -> list[Future[Any]]:
            return [engine.submit(HELLO, SHORT) for _ in range(3)]

        asked: list[Future[Any]] = []
        for ask in (streams, wholes) if (owner, name) in STREAM else (wholes, streams):
            asked += ask()
            assert reached.wait(PATIENCE)
        all_asked.set()
        for each in asked:
            assert isinstance(each.exception(PATIENCE), EngineStoppedError)
    wait_until(lambda: not engine.healthy)


def test_a_defect_in_one_decode_of_a_batch_stays_with_it(engine: HiggsAudioEngine) -> None:
    """The codec's thread is held until all wait, so that they are decoded together."""
    codec, worker = engine._parts.codec, engine._codec
    assert codec is not None
    assert worker is not None
    held, go_on = threading.Event(), threading.Event()
    call = codec.decode

    def decode(codes: Any) -> Any:
        held.set()
        assert go_on.wait(PATIENCE)
        if (codes == 7).all(dim=2).all(dim=1).any():
            raise ValueError("defect")
        return call(codes)

    codec.decode = decode  # type: ignore[method-assign]
    first = worker.decode(np.zeros((8, 3), np.int64))
    assert held.wait(PATIENCE)
    futures = [worker.decode(np.full((8, 4), value)) for value in (1, 7, 3)]
    go_on.set()
    assert first.result(PATIENCE).size
    assert [type(future.exception(PATIENCE)) for future in futures] == [type(None), HiggsError, type(None)]
    assert worker.healthy


def test_cancels_that_race_with_the_end_leave_no_future_open(engine: HiggsAudioEngine) -> None:
    """Every request is cancelled from another thread at a drawn moment of its life, streams too."""
    draw = random.Random(5)
    ended: list[BaseException | None] = []

    def ask(number: int) -> BaseException | None:
        params = GenerationParams(max_new_tokens=draw.choice((1, 2, 9, 12, 20, 40)), temperature=1.0, seed=number)
        request: GenerationFuture | AudioStream
        request = engine.stream(HELLO, params) if number % 2 else engine.submit(HELLO, params)
        columns = draw.randrange(40)

        def cancel() -> None:
            wait_until(lambda: request.columns_generated >= columns or ended_already(request))
            request.cancel() if isinstance(request, GenerationFuture) else request.close()

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        try:
            if isinstance(request, GenerationFuture):
                request.result(PATIENCE)
            else:
                list(request)
        except (CancelledError, GenerationCancelled) as error:
            return error
        finally:
            cancelling.join(PATIENCE)
        return None

    def ended_already(request: GenerationFuture | AudioStream) -> bool:
        return request._generation.finished.done()

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(ask, range(60)))
    assert len(ended) == 60
    wait_until(lambda: engine.stats()["active"] == engine.stats()["waiting"] == 0)
    assert not engine._scheduler._unresolved
    assert not engine._scheduler._cancelled
    assert engine.healthy


def test_a_cancel_after_the_end_is_forgotten(engine: HiggsAudioEngine) -> None:
    stream = engine.stream(HELLO, SHORT)
    list(stream)
    engine._scheduler.cancel(stream._generation)
    assert not engine._scheduler._cancelled


def test_places_in_the_queue_survive_every_way_out() -> None:
    """Refusals, defects in building a prompt, a closed engine: the count of reserved places ends at none."""
    engine = HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=512, max_waiting=2)
    prepare = engine._preparation.prepare
    for error in (KeyError("defect"), SystemExit(), MemoryError()):
        engine._preparation.prepare = raising(error)  # type: ignore[method-assign]
        for ask in (engine.submit, engine.stream):
            with pytest.raises(type(error)):
                ask(HELLO, SHORT)
    in_prepare, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        in_prepare.set()
        assert go_on.wait(PATIENCE)
        return prepare(*arguments)

    engine._preparation.prepare = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(engine.submit, HELLO, SHORT)
        assert in_prepare.wait(PATIENCE)
        engine.close()
        go_on.set()
        assert isinstance(late.exception(PATIENCE), EngineStoppedError)
    assert engine._scheduler._reserved == 0
    assert engine.stats()["waiting"] == 0
