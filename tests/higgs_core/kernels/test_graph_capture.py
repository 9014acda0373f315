"""A capture that fails, on a machine without a GPU: what is undone."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from higgs_core.kernels.graph_capture import captured
from higgs_core.kernels.pdl_check import repeat_in_a_graph
from higgs_core.kernels.tuning import seconds_in_a_graph

BEFORE = SimpleNamespace(device_index=0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for a device whose captures cannot be ended: torch's context manager then leaves its own stream current,
    and the allocator in the graph's memory."""
    state = SimpleNamespace(stream=BEFORE, allocating_to=None)

    class Capture:
        def __init__(self, graph: object, pool: str, **_: Any) -> None:
            self.pool = pool

        def __enter__(self) -> None:
            state.stream, state.allocating_to = SimpleNamespace(device_index=0), self.pool

        def __exit__(self, *_: object) -> None:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def end_allocating(device: int, pool: str) -> None:
        assert pool == state.allocating_to
        state.allocating_to = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: state.stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: BEFORE)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(state, "stream", stream))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end_allocating, raising=False)
    return state


@pytest.mark.parametrize(
    "capture",
    [
        captured,
        lambda work: repeat_in_a_graph(work, 2),
        lambda work: seconds_in_a_graph(work, [()]),
    ],
    ids=["captured", "repeat_in_a_graph", "seconds_in_a_graph"],
)
def test_a_capture_that_cannot_be_ended_leaves_stream_and_allocator_as_they_were(
    cuda: SimpleNamespace, capture: Callable[[Callable[[], torch.Tensor]], object]
) -> None:
    with pytest.raises(RuntimeError, match="during capture"):
        capture(lambda: torch.zeros(1))
    assert cuda.stream is BEFORE
    assert cuda.allocating_to is None
