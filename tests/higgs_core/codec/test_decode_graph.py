"""Captured decodes: the same audio as plain ones, for any batch, and plain ones wherever capturing fails.

Without a GPU a trace of the operations stands for the CUDA graph: it too holds what was done and no Python.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec import decode_graph
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.codec.decode_graph import ROWS, CudaCapture, DecodeGraphs
from higgs_core.rates import FRAME_SAMPLES

CPU = torch.device("cpu")


class Traced:
    """Records a decode as a list of operations, and runs them again."""

    def __init__(self) -> None:
        self.replays: list[tuple[int, ...]] = []
        self.fails_at: int | None = None  # how many captures succeed
        self.spoils = False

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        if self.fails_at == 0:
            raise RuntimeError("operation not permitted when stream is capturing")
        if self.fails_at is not None:
            self.fails_at -= 1
        trace, result = make_fx(run)(), run()

        def replay() -> None:
            self.replays.append(tuple(result.shape))
            result.copy_(trace())
            if self.spoils:
                result[-1, -1] += 1

        return replay, result


class StandInCodec:
    """Every sample is the sum of what a table holds for the frame's codes."""

    num_codebooks, codebook_size = 8, 1024

    def __init__(self) -> None:
        self.table = torch.rand(1024, generator=torch.Generator().manual_seed(0))

    def decode_on_device(self, codes: torch.Tensor) -> torch.Tensor:
        return self.table[codes].sum(1).repeat_interleave(FRAME_SAMPLES, dim=1)


@pytest.fixture
def codec() -> StandInCodec:
    return StandInCodec()


@pytest.fixture
def capture() -> Traced:
    return Traced()


@pytest.fixture
def graphs(codec: StandInCodec, capture: Traced, traceable: None) -> DecodeGraphs:
    return DecodeGraphs(codec, CPU, capture)  # type: ignore[arg-type]


@pytest.fixture
def traceable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inference tensors cannot be traced; what runs is the same without."""
    for name in ("_checked", "decode"):
        monkeypatch.setattr(DecodeGraphs, name, getattr(DecodeGraphs, name).__wrapped__)
    with torch.no_grad():
        yield


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1024, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_any_batch_of_a_captured_length_is_put_together_of_captured_decodes(
    codec: StandInCodec, graphs: DecodeGraphs, capture: Traced, rows: int
) -> None:
    graphs.prepare([3])
    capture.replays.clear()
    codes = random_codes(rows, 8, 3, seed=rows)
    audio = graphs.decode(codes)
    assert audio is not None
    assert torch.equal(audio, codec.decode_on_device(codes))
    assert sum(shape[0] for shape in capture.replays) == rows
    assert len(capture.replays) == rows // 4 + rows % 4


def test_a_replay_leaves_the_audio_of_the_one_before_alone(codec: StandInCodec, graphs: DecodeGraphs) -> None:
    graphs.prepare([2])
    first = graphs.decode(random_codes(1, 8, 2, seed=1))
    second = graphs.decode(random_codes(1, 8, 2, seed=2))
    assert first is not None
    assert torch.equal(first, codec.decode_on_device(random_codes(1, 8, 2, seed=1)))
    assert second is not None
    assert not torch.equal(first, second)


def test_other_lengths_are_not_for_it(graphs: DecodeGraphs) -> None:
    assert graphs.lengths == ()
    graphs.prepare([2, 3, 2])
    assert graphs.lengths == (2, 3)
    assert graphs.decode(random_codes(1, 8, 4)) is None


def test_a_capture_that_fails_leaves_the_shorter_lengths_plain_with_one_warning(
    graphs: DecodeGraphs, capture: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    capture.fails_at = len(ROWS) + 1  # in the middle of the second length
    graphs.prepare([2, 3, 4])
    assert graphs.lengths == (4,)
    assert graphs.decode(random_codes(1, 8, 3)) is None
    assert graphs.decode(random_codes(5, 8, 4)) is not None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "A decode of 3 frames cannot be captured" in record.getMessage()


def test_a_capture_that_gives_other_audio_is_not_used(
    graphs: DecodeGraphs, capture: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    capture.spoils = True
    graphs.prepare([2])
    assert graphs.lengths == ()
    assert len(caplog.records) == 1


def test_a_decode_of_the_codec_holds_no_number_of_the_codes_it_was_captured_with(
    tmp_path: Path, capture: Traced, traceable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(decode_graph, "ROWS", (1,))
    codec = AudioCodec.from_folder(write_tiny(tmp_path)[1], CPU)
    graphs = DecodeGraphs(codec, CPU, capture)
    graphs.prepare([2])
    codes = random_codes(2, 8, 2)
    audio = graphs.decode(codes)
    assert audio is not None
    torch.testing.assert_close(audio, codec.decode(codes), rtol=1e-5, atol=1e-6)


class TestCudaCapture:
    """What is asked of CUDA, in which order."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        calls: list[Any] = []

        class Graph:
            def capture_begin(self, pool: object, capture_error_mode: str) -> None:
                calls.append(("begin", pool, capture_error_mode))

            def capture_end(self) -> None:
                calls.append("end")

            def replay(self) -> None:
                calls.append("replay")

        class Stream:
            device_index = 0

            def synchronize(self) -> None:
                calls.append("synchronize")

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        pools = map("pool {}".format, range(9))
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *which: calls.append(which))
        return calls

    def test_a_decode_runs_once_before_it_is_captured_and_the_graphs_share_their_memory(self, calls: list[Any]) -> None:
        def run() -> torch.Tensor:
            calls.append("run")
            return torch.ones(1)

        capture = CudaCapture()
        replay, result = capture(run)
        replay()
        assert torch.equal(result, torch.ones(1))
        begin = ("begin", "pool 0", "thread_local")
        assert calls == ["run", "synchronize", begin, "run", "end", "replay"]
        calls.clear()
        capture(run)
        assert begin in calls

    def test_a_capture_is_ended_when_the_decode_fails_in_it(self, calls: list[Any]) -> None:
        def run() -> torch.Tensor:
            calls.append("run")
            if calls.count("run") == 2:
                raise RuntimeError("not permitted when stream is capturing")
            return torch.ones(1)

        with pytest.raises(RuntimeError, match="not permitted"):
            CudaCapture()(run)
        assert "end" in calls

    def test_a_capture_that_breaks_leaves_no_pool_open(self, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """CUDA ends a broken capture with an error, before torch's allocator is told that it is over."""

        def broken(_: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

        capture = CudaCapture()
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda.CUDAGraph, "capture_end", broken)
            patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
            with pytest.raises(RuntimeError, match="previous error"):
                capture(lambda: torch.ones(1))
        assert calls[-1] == (0, "pool 0")
        capture(lambda: torch.ones(1))
        assert ("begin", "pool 1", "thread_local") in calls


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_on_a_gpu_captured_decodes_are_plain_ones(tmp_path: Path) -> None:
    device = torch.device("cuda")
    codec = AudioCodec.from_folder(write_tiny(tmp_path)[1], device)
    with torch.cuda.stream(torch.cuda.Stream(device)):
        graphs = DecodeGraphs(codec, device)
        graphs.prepare([11, 36])
        assert graphs.lengths == (11, 36)
        for rows, frames in [(1, 11), (7, 36), (5, 11), (1, 36)]:
            codes = random_codes(rows, 8, frames, seed=rows)
            audio = graphs.decode(codes)
            assert audio is not None
            torch.testing.assert_close(audio, codec.decode(codes), rtol=1e-4, atol=1e-5)
