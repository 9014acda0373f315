"""The codec's thread: batches of equal length, failures that stay with their jobs, its stream, a death in mid-job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from higgs_core.codec import worker as worker_module
from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES
from higgs_core.codec.worker import CodecWorker
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, RequestError
from higgs_core.rates import FRAME_SAMPLES as FRAME
from tests.helpers.patience import PATIENCE

OUT_OF_MEMORY = [torch.cuda.OutOfMemoryError(), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]


class StandInCodec:
    """Audio of a frame is its first code, repeated. `before` runs in the codec's thread ahead of every call."""

    def __init__(self) -> None:
        self.before: Callable[[str], None] = lambda _: None
        self.batches: list[int] = []
        self.frames: list[int] = []

    def warm_up(self) -> None:
        self.before("warm-up")

    def encode(self, waveform: np.ndarray) -> torch.Tensor:
        self.before("encode")
        return torch.from_numpy(waveform[::FRAME].astype(np.int64))[None].repeat(8, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        self.batches.append(codes.shape[0])
        self.frames.append(codes.shape[2])
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
    same = [worker.decode(codes(3, value)) for value in range(9)]
    other = worker.decode(codes(5, 77))
    gate.open()
    for value, future in enumerate(same):
        assert future.result(PATIENCE).tolist() == [value] * 3 * FRAME
    assert other.result(PATIENCE).tolist() == [77] * 5 * FRAME
    assert codec.batches == [9, 1]


def test_a_batch_is_bounded_in_frames_and_a_long_clip_is_decoded_in_pieces(
    codec: StandInCodec, worker: CodecWorker
) -> None:
    gate = Gate(codec, worker, lambda _: None)
    frames = MAX_DECODE_FRAMES // 3
    medium = [worker.decode(codes(frames, value)) for value in range(4)]
    long = worker.decode(np.tile(np.arange(MAX_DECODE_FRAMES + 5), (8, 1)))
    gate.open()
    for value, future in enumerate(medium):
        assert future.result(PATIENCE).tolist() == [value] * frames * FRAME
    assert long.result(PATIENCE).tolist() == np.repeat(np.arange(MAX_DECODE_FRAMES + 5), FRAME).tolist()
    assert codec.batches == [3, 1, 1, 1]


def test_a_clip_is_encoded_while_streams_never_pause(codec: StandInCodec, worker: CodecWorker) -> None:
    """Every decode asks for the next before it ends, so there is always one that waits; only the encode ends that."""
    ended, decodes = threading.Event(), []

    def another(what: str) -> None:
        if what == "encode":
            ended.set()
        elif not ended.is_set() and len(decodes) < 100:
            decodes.append(worker.decode(codes(3)))

    gate = Gate(codec, worker, another)
    decodes.append(worker.decode(codes(3)))
    clip = worker.encode(np.zeros(FRAME, dtype=np.float32))
    gate.open()
    clip.result(PATIENCE)
    assert len(decodes) < 100


def test_nothing_to_decode_is_no_samples(codec: StandInCodec, worker: CodecWorker) -> None:
    assert worker.decode(codes(0)).result(PATIENCE).shape == (0,)
    assert codec.batches == []


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


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cuDNN"])
def test_a_batch_that_does_not_fit_into_memory_is_decoded_one_by_one(
    codec: StandInCodec, worker: CodecWorker, error: RuntimeError
) -> None:
    def too_large(what: str) -> None:
        if what == "decode" and codec.batches[-1] > 1:
            raise error

    gate = Gate(codec, worker, too_large)
    futures = [worker.decode(codes(3, value)) for value in range(3)]
    gate.open()
    assert [future.result(PATIENCE)[0] for future in futures] == [0, 1, 2]
    assert codec.batches == [3, 1, 1, 1]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cuDNN"])
def test_a_single_job_that_does_not_fit_says_so_and_the_next_one_runs(
    codec: StandInCodec, worker: CodecWorker, error: RuntimeError
) -> None:
    def too_large(_: str) -> None:
        raise error

    codec.before = too_large
    with pytest.raises(DeviceMemoryError):
        worker.decode(codes(3)).result(PATIENCE)
    with pytest.raises(DeviceMemoryError):
        worker.encode(np.zeros(FRAME, dtype=np.float32)).result(PATIENCE)
    codec.before = lambda _: None
    assert worker.decode(codes(1, 5)).result(PATIENCE).tolist() == [5] * FRAME
    assert worker.healthy


def test_memory_that_cannot_be_freed_while_a_graph_is_captured_ends_no_thread(
    codec: StandInCodec, worker: CodecWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(_: str) -> None:
        raise torch.cuda.OutOfMemoryError

    def refuse() -> None:
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    monkeypatch.setattr(torch.cuda, "empty_cache", refuse)
    codec.before = too_large
    with pytest.raises(DeviceMemoryError):
        worker.decode(codes(3)).result(PATIENCE)
    assert worker.healthy


def test_one_decode_of_a_batch_that_does_not_fit_alone_fails_alone(codec: StandInCodec, worker: CodecWorker) -> None:
    def too_large(_: str) -> None:
        if codec.batches != [3, 1, 1, 1] and codec.batches != [3, 1]:
            raise torch.cuda.OutOfMemoryError

    gate = Gate(codec, worker, too_large)
    futures = [worker.decode(codes(3, value)) for value in range(3)]
    gate.open()
    assert futures[0].result(PATIENCE)[0] == 0
    with pytest.raises(DeviceMemoryError):
        futures[1].result(PATIENCE)
    assert futures[2].result(PATIENCE)[0] == 2


def test_on_a_cpu_there_is_nothing_to_warm_up(codec: StandInCodec, worker: CodecWorker) -> None:
    worker.warm_up([11, 84])
    assert worker.captured_lengths == ()
    assert codec.batches == []


class StandInGpu:
    """What the thread asks of CUDA, noted down: `torch.cuda` without a device."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.streams: list[tuple[torch.device, int]] = []
        self.entered: list[str] = []
        self.calls: list[str] = []
        patch.setattr(torch.cuda, "Stream", self._stream)
        patch.setattr(self._stream, "priority_range", staticmethod(lambda: (0, -3)), raising=False)
        patch.setattr(torch.cuda, "stream", self._entered)
        patch.setattr(torch.cuda, "synchronize", lambda device: self.calls.append(threading.current_thread().name))
        patch.setattr(worker_module, "DecodeGraphs", lambda codec, device: self)
        self.lengths: tuple[int, ...] = ()
        self.prepared_by = ""

    class _stream:
        made: ClassVar[list[tuple[torch.device, int]]] = []

        def __init__(self, device: torch.device, priority: int) -> None:
            self.made.append((device, priority))

    @contextlib.contextmanager
    def _entered(self, _: Any) -> Iterator[None]:
        self.entered.append(threading.current_thread().name)
        yield

    def prepare(self, lengths: Sequence[int]) -> None:
        self.prepared_by = threading.current_thread().name
        self.lengths = tuple(lengths)

    def decode(self, codes: torch.Tensor) -> torch.Tensor | None:
        return codes[:, 0].repeat_interleave(FRAME, dim=1) + 0.5 if codes.shape[2] in self.lengths else None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGpu]:
    made = StandInGpu(monkeypatch)
    yield made
    made._stream.made.clear()


@pytest.fixture
def gpu_worker(codec: StandInCodec, gpu: StandInGpu) -> Iterator[CodecWorker]:
    made = CodecWorker(codec, torch.device("cuda"))  # type: ignore[arg-type]
    yield made
    made.close()


class TestOnAGpu:
    def test_the_thread_runs_on_a_stream_of_the_lowest_priority_once_everything_is_loaded(
        self, gpu: StandInGpu, gpu_worker: CodecWorker
    ) -> None:
        gpu_worker.encode(np.zeros(FRAME, dtype=np.float32)).result(PATIENCE)
        assert gpu._stream.made == [(torch.device("cuda"), 0)]
        assert gpu.entered == ["higgs-codec"]
        assert gpu.calls == [threading.current_thread().name], "nobody waits for the whole device later"

    def test_it_is_warmed_up_on_its_own_thread(
        self, codec: StandInCodec, gpu: StandInGpu, gpu_worker: CodecWorker
    ) -> None:
        threads = []
        codec.before = lambda _: threads.append(threading.current_thread().name)
        gpu_worker.warm_up([11, 84])
        assert gpu.prepared_by == "higgs-codec"
        assert gpu_worker.captured_lengths == (11, 84)
        assert threads == ["higgs-codec"]

    @pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["torch", "cuDNN"])
    def test_too_little_memory_for_the_longest_clips_stops_no_boot(
        self,
        codec: StandInCodec,
        gpu_worker: CodecWorker,
        error: RuntimeError,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def too_large(_: str) -> None:
            raise error

        codec.before = too_large
        gpu_worker.warm_up([11])
        assert gpu_worker.captured_lengths == (11,)
        assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["WARNING"]

    def test_captured_lengths_are_replayed_and_others_decoded_plainly(
        self, codec: StandInCodec, gpu_worker: CodecWorker
    ) -> None:
        gpu_worker.warm_up([11])
        assert gpu_worker.decode(codes(11, 3)).result(PATIENCE).tolist() == [3.5] * 11 * FRAME
        assert codec.frames == []
        assert gpu_worker.decode(codes(12, 3)).result(PATIENCE).tolist() == [3.0] * 12 * FRAME
        assert codec.frames == [12]


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
        futures = [worker.decode(codes(200)) for _ in range(7)]
        gate.open()
        self.assert_nobody_waits(worker, futures)
        assert codec.batches == [5]

    def test_between_the_pieces_of_a_long_decode(self, codec: StandInCodec, worker: CodecWorker) -> None:
        gate = Gate(codec, worker, lambda _: die("") if len(codec.batches) == 2 else None)
        long = worker.decode(codes(3 * MAX_DECODE_FRAMES))
        gate.open()
        self.assert_nobody_waits(worker, [long])

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


def test_the_threads_of_a_decode_step_are_not_taken_over(codec: StandInCodec) -> None:
    """torch gives a thread that computes for the first time the number that any thread has set last."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        worker = CodecWorker(codec, torch.device("cpu"))  # type: ignore[arg-type]
        seen: list[int] = []
        codec.before = lambda _: seen.append(torch.get_num_threads())
        step = threading.Thread(target=torch.set_num_threads, args=(1,))
        step.start()
        step.join()
        worker.decode(codes(1)).result(timeout=PATIENCE)
        worker.close()
    finally:
        torch.set_num_threads(before)
    assert seen == [4]
