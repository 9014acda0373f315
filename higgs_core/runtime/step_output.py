"""What decode steps emitted, on its way to the host while later steps already run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from higgs_core.runtime.generation import Generation

STEPS_IN_FLIGHT = 4
"""On a GPU. Upper bound on wasted steps per finished row."""


@dataclass(frozen=True, eq=False)
class StepOutput:
    """Output of one step. row_to_request: the request of each row when the step was launched, None for an idle row."""

    tensor: torch.Tensor  # int64 [B, Q + 1], host memory
    row_to_request: list[Generation | None]
    arrived: torch.cuda.Event | None

    def emitted(self) -> np.ndarray:
        """int64 [B, Q + 1], after waiting for it: each row's column and status."""
        if self.arrived is not None:
            self.arrived.synchronize()
            # A copy: columns are kept, and views of them would keep the pinned memory from the next steps.
            return self.tensor.numpy().copy()
        return self.tensor.numpy()


class StepOutputs:
    """In the order of their steps. Copies go through pinned memory and are waited for a few steps later only."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._max_in_flight = STEPS_IN_FLIGHT if self._on_gpu else 0
        self._in_flight: deque[StepOutput] = deque()

    def __len__(self) -> int:
        return len(self._in_flight)

    def send(self, emitted: torch.Tensor, row_to_request: list[Generation | None]) -> None:
        """Start the copy of `emitted`, int64 [B, Q + 1], which the next step overwrites."""
        if not self._on_gpu:
            self._in_flight.append(StepOutput(emitted.clone(), row_to_request, None))
            return
        host = torch.empty(emitted.shape, dtype=emitted.dtype, pin_memory=True)
        host.copy_(emitted, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # the wait is long, so the host does not poll
        arrived.record()
        self._in_flight.append(StepOutput(host, row_to_request, arrived))

    def next(self, *, keep_in_flight: bool) -> StepOutput | None:
        """The oldest output, or None. keep_in_flight: leave some queued, so that the GPU never idles."""
        if len(self._in_flight) > (self._max_in_flight if keep_in_flight else 0):
            return self._in_flight.popleft()
        return None
