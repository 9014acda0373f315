"""Captures of CUDA graphs that leave nothing behind where they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

ERROR_MODE = "thread_local"
"""Other threads may use the device during a capture; only what the capturing thread does is captured."""


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph, pool: Any = None, stream: torch.cuda.Stream | None = None) -> Iterator[None]:
    """What runs in the block is captured in `graph`, once the device has nothing to do any more.

    pool: of `torch.cuda.graph_pool_handle`; None for one of its own.  stream: to capture on; None for one of torch's.
    Raises what capturing raises; the current stream can be used as before.
    """
    pool = torch.cuda.graph_pool_handle() if pool is None else pool
    entered = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode=ERROR_MODE)
    with ended_on_failure(graph, pool), entered:
        yield


@contextmanager
def ended_on_failure(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """Undoes what a capture of the block leaves behind when it fails and cannot be ended.

    A broken capture ends before torch's allocator learns of it. Else that would go on as if it were under way: it would
    defer what it frees, and neither empty its cache nor try again when memory is short.
    """
    stream = torch.cuda.current_stream()
    try:
        yield
    except BaseException:
        with suppress(Exception):
            if torch.cuda.is_current_stream_capturing():
                graph.capture_end()
        with suppress(Exception):  # raises where nothing is left behind
            torch._C._cuda_endAllocateToPool(stream.device_index, pool)
        torch.cuda.set_stream(stream)
        raise
