"""What a failed capture leaves behind, with a stand-in for CUDA. `runtime/test_captured_steps.py` does it on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from higgs_core.graph_capture import capturing
from higgs_core.kernels.checks.pdl_check import repeat_in_a_graph
from higgs_core.kernels.plans.tuning import seconds_in_a_graph

CAPTURES: list[Callable[[Callable[[], torch.Tensor]], Any]] = [
    lambda work: _captured(work),
    lambda work: seconds_in_a_graph(work, [()]),
    lambda work: repeat_in_a_graph(work, 1),
]


def _captured(work: Callable[[], torch.Tensor]) -> None:
    with capturing(torch.cuda.CUDAGraph()):
        work()


@pytest.mark.parametrize("capture", CAPTURES, ids=["plain", "to time", "to check"])
def test_a_capture_that_breaks_gives_back_the_stream_and_the_pool(
    capture: Callable[[Callable[[], torch.Tensor]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.cuda.graph` leaves its block with an error from `capture_end`, on the stream that it captured on."""

    class Stream:
        device_index = 0

    before, side = Stream(), Stream()
    current, ended = [before], []

    class Broken:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def __enter__(self) -> None:
            current[0] = side

        def __exit__(self, *_: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "graph", Broken)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *which: ended.append(which))
    with pytest.raises(RuntimeError, match="previous error"):
        capture(lambda: torch.ones(1))
    assert current == [before]
    assert ended == [(0, "pool")]
