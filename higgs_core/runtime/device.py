"""The current device of a thread: torch keeps one per thread, and a new thread starts on the first GPU."""

from __future__ import annotations

import contextlib

import torch


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the block, streams, events, graphs and Triton's launches of this thread belong to `device`."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
