"""Captures work of the current thread in CUDA graphs that share their memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

Work = Callable[[], None]


class CudaGraphs:
    """One graph a call; one of them runs at a time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def capture(self, work: Work) -> Work:
        """Returns what replays `work`, whose tensors must stay where they are. `work` must have run before.

        Raises what capturing raises, with nothing captured; the current stream can be used as before.
        """
        stream = torch.cuda.current_stream()
        # Nodes keep the priority of the stream that they are captured on. The default stream cannot be captured.
        on = None if stream == torch.cuda.default_stream() else stream
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle() if self._pool is None else self._pool
        self._pool = None  # after a failure the next capture begins a pool of its own
        # The codec's thread may use the device meanwhile; only what this thread does is captured.
        capturing = torch.cuda.graph(graph, pool=pool, stream=on, capture_error_mode="thread_local")
        with _ended_on_failure(stream, graph, pool), capturing:
            work()
        self._pool = pool
        return graph.replay


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
