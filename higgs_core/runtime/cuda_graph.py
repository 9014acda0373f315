"""Captures work of the current thread in CUDA graphs that share their memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from higgs_core.graph_capture import capturing

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
        with capturing(graph, pool, on):
            work()
        self._pool = pool
        return graph.replay
