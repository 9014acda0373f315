"""The device of the engine's thread, and the stream that its work is queued on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def engine_stream(device: torch.device) -> Iterator[None]:
    """Inside the block, what this thread launches belongs to `device` and goes to a stream of its own.

    torch keeps the current device and stream per thread. The stream has a higher priority than others: its steps go
    before the codec's work, for which anyone who listens has more time. Weights, cache and state were made on another
    stream and outlive the block, so one wait at each end is enough.
    """
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(priority=-1)
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            try:
                yield
            finally:
                stream.synchronize()
