"""The codec's thread: batches of equal length, failures that stay with their jobs, and a death in mid-job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from higgs_core.codec.worker import MAX_BATCH, CodecWorker
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, RequestError
from tests.helpers.patience import PATIENCE

FRAME = 4  # samples of a frame of the stand-in


class StandInCodec:
    """Audio of a frame is its first code, repeated. `before` runs in the codec's thread ahead of every call."""

    def __init__(self) -> None:
        self.before: Callable[[str], None] = lambda _: None
        self.batches: list[int] = []

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        self.before("encode")
        return torch.from_numpy(waveform[::FRAME].astype(np.int64))[None].repeat(8, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        self.batches.append(codes.shape[0])
        self.before("decode")
        return codes[:, 0].repeat_interleave(FRAME, dim=1).float()


@pytest.fixture
def codec() -> StandInCodec:
    return StandInCodec()


@pytest.fixture
def worker(codec: StandInCodec) -> Iterator[CodecWorker]:
    made = CodecWorker(codec, torch.device("cpu"))  # type: ignore[arg-type]
    yield made
    made.close()


class Gate:
    """Holds the codec's thread in its first call, so that what is asked for meanwhile waits together."""

    def __init__(self, codec: StandInCodec, worker: CodecWorker, then: Callable[[str], None]) -> None:
        self._reached, self._open = threading.Event(), threading.Event()
        self._then = then
        codec.before = self._hold
        self.first = worker.encode(np.zeros(FRAME, dtype=np.float32))
        assert self._reached.wait(PATIENCE)

    def _hold(self, what: str) -> None:
        if not self._reached.is_set():
            self._reached.set()
            assert self._open.wait(PATIENCE)
        else:
            self._then(what)

    def open(self) -> None:
        self._open.set()


def die(_: str) -> None:
    raise SystemExit


def codes(frames: int, value: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.full((8, frames), value)


def test_decodes_of_one_length_run_together_and_keep_their_rows(codec: StandInCodec, worker: CodecWorker) -> None:
    gate = Gate(codec, worker, lambda _: None)
    same = [worker.decode(codes(3, value)) for value in range(MAX_BATCH + 1)]
    other = worker.decode(codes(5, 77))
    gate.open()
    for value, future in enumerate(same):
        assert future.result(PATIENCE).tolist() == [value] * 3 * FRAME
    assert other.result(PATIENCE).tolist() == [77] * 5 * FRAME
    assert codec.batches == [MAX_BATCH, 1, 1]


def test_segments_are_joined_in_their_order_and_empty_ones_are_nothing(worker: CodecWorker) -> None:
    joined = worker.decode_joined([codes(2, 1), codes(0), codes(1, 2), codes(2, 3)]).result(PATIENCE)
    assert joined.tolist() == [1] * 2 * FRAME + [2] * FRAME + [3] * 2 * FRAME
    assert worker.decode_joined([codes(0)]).result(PATIENCE).shape == (0,)


def test_an_error_of_one_job_leaves_the_next_ones_alone(codec: StandInCodec, worker: CodecWorker) -> None:
    def refuse(_: str) -> None:
        raise RequestError("no")

    codec.before = refuse
    with pytest.raises(RequestError, match="no"):
        worker.encode(np.zeros(FRAME, dtype=np.float32)).result(PATIENCE)
    codec.before = lambda _: None
    assert worker.encode(np.ones(FRAME, dtype=np.float32)).result(PATIENCE).tolist() == [[1]] * 8
    assert worker.healthy


def test_a_batch_that_does_not_fit_into_memory_is_decoded_one_by_one(codec: StandInCodec, worker: CodecWorker) -> None:
    def too_large(what: str) -> None:
        if what == "decode" and codec.batches[-1] > 1:
            raise torch.cuda.OutOfMemoryError

    gate = Gate(codec, worker, too_large)
    futures = [worker.decode(codes(3, value)) for value in range(3)]
    gate.open()
    assert [future.result(PATIENCE)[0] for future in futures] == [0, 1, 2]
    assert codec.batches == [3, 1, 1, 1]


def test_a_single_decode_that_does_not_fit_says_so(codec: StandInCodec, worker: CodecWorker) -> None:
    def too_large(_: str) -> None:
        raise torch.cuda.OutOfMemoryError

    codec.before = too_large
    with pytest.raises(DeviceMemoryError):
        worker.decode(codes(3)).result(PATIENCE)
    assert worker.healthy


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death itself
class TestDeath:
    def test_in_mid_encode(self, codec: StandInCodec, worker: CodecWorker) -> None:
        gate = Gate(codec, worker, die)
        futures = [worker.encode(np.zeros(FRAME, dtype=np.float32)) for _ in range(2)]
        gate.open()
        assert gate.first.result(PATIENCE).shape == (8, 1)
        self.assert_nobody_waits(worker, futures)

    def test_in_mid_decode(self, codec: StandInCodec, worker: CodecWorker) -> None:
        gate = Gate(codec, worker, die)
        futures = [worker.decode(codes(3)), worker.decode(codes(4)), worker.encode(np.zeros(FRAME, dtype=np.float32))]
        gate.open()
        self.assert_nobody_waits(worker, futures)

    def test_in_a_batch(self, codec: StandInCodec, worker: CodecWorker) -> None:
        gate = Gate(codec, worker, die)
        futures = [worker.decode(codes(3)) for _ in range(MAX_BATCH + 2)]
        gate.open()
        self.assert_nobody_waits(worker, futures)
        assert codec.batches == [MAX_BATCH]

    def test_in_a_batch_that_is_decoded_one_by_one(self, codec: StandInCodec, worker: CodecWorker) -> None:
        def too_large_then_dead(_: str) -> None:
            if codec.batches[-1] > 1:
                raise torch.cuda.OutOfMemoryError
            if codec.batches.count(1) == 2:
                raise SystemExit

        gate = Gate(codec, worker, too_large_then_dead)
        futures = [worker.decode(codes(3, value)) for value in range(3)]
        gate.open()
        assert futures[0].result(PATIENCE)[0] == 0  # it was ready before the thread died
        self.assert_nobody_waits(worker, futures[1:])

    def test_between_the_segments_of_one_request(self, codec: StandInCodec, worker: CodecWorker) -> None:
        gate = Gate(codec, worker, lambda _: die("") if len(codec.batches) == 2 else None)
        joined = worker.decode_joined([codes(3), codes(4), codes(5)])
        gate.open()
        self.assert_nobody_waits(worker, [joined])

    @staticmethod
    def assert_nobody_waits(worker: CodecWorker, futures: list[Any]) -> None:
        for future in futures:
            with pytest.raises(EngineStoppedError, match="codec"):
                future.result(PATIENCE)
        assert not worker.healthy
        with pytest.raises(EngineStoppedError):
            worker.encode(np.zeros(FRAME, dtype=np.float32))
        with pytest.raises(EngineStoppedError):
            worker.decode_joined([codes(1)])
