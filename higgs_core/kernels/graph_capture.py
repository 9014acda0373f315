"""Captures work of the current thread in a CUDA graph, so that a capture that fails leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def captured(work: Callable[[], object], *, pool: Any = None) -> torch.cuda.CUDAGraph:
    """A graph of `work`, whose tensors must stay where they are. `work` must have run before.

    pool: the memory that the graph shares with others; None for memory of its own. Raises what capturing raises, with
    nothing captured; the current stream can be used as before.
    """
    stream = torch.cuda.current_stream()
    # Nodes keep the priority of the stream that they are captured on. The default stream cannot be captured.
    on = None if stream == torch.cuda.default_stream() else stream
    graph = torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle() if pool is None else pool
    # Other threads may use the device meanwhile; only what this one does is captured.
    capturing = torch.cuda.graph(graph, pool=pool, stream=on, capture_error_mode="thread_local")
    with _ended_on_failure(stream, graph, pool), capturing:
        work()
    return graph


@contextlib.contextmanager
def _ended_on_failure(stream: torch.cuda.Stream, graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """Undoes what `torch.cuda.graph` leaves behind when a capture fails and cannot be ended."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            if torch.cuda.is_current_stream_capturing():
                graph.capture_end()
        with contextlib.suppress(Exception):  # raises where nothing is left behind
            # Else the allocator would go on as if a capture were under way, and defer what it frees.
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
        torch.cuda.set_stream(stream)
        raise
