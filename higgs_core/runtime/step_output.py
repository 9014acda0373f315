"""What steps emitted, on its way to the host while later steps already run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from higgs_core.runtime.generation import Generation

STEPS_IN_FLIGHT = 2
"""On a GPU. Upper bound on wasted steps per finished row."""

RowMap = list[Generation | None]
"""The request of each row when a step was launched, None for an idle row."""


@dataclass(frozen=True, eq=False)
class StepOutput:
    """Output of one step. is_text: of a text step, else of a decode step."""

    tensor: torch.Tensor  # int64 [B, any], host memory
    row_to_request: RowMap
    is_text: bool
    arrived: torch.cuda.Event | None

    def emitted(self) -> np.ndarray:
        """int64 [B, any], after waiting for it: what each row emitted, its status last."""
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

    def reserve(self, emitted: torch.Tensor) -> torch.Tensor:
        """Host memory for `emitted`, int64 [B, any]. Taken before its step runs: no output may be lost behind one."""
        return torch.empty(emitted.shape, dtype=emitted.dtype, pin_memory=self._on_gpu)

    def send(self, emitted: torch.Tensor, host: torch.Tensor, row_to_request: RowMap, *, is_text: bool) -> None:
        """Start the copy of `emitted`, which the next step overwrites, to `host`, which `reserve` gave."""
        host.copy_(emitted, non_blocking=True)
        arrived = None
        if self._on_gpu:
            arrived = torch.cuda.Event(blocking=True)  # the wait is long, so the host does not poll
            arrived.record()
        self._in_flight.append(StepOutput(host, row_to_request, is_text, arrived))

    def next(self, *, keep_in_flight: bool) -> StepOutput | None:
        """The oldest output, or None. keep_in_flight: leave some queued, so that the GPU never idles."""
        if len(self._in_flight) > (self._max_in_flight if keep_in_flight else 0):
            return self._in_flight.popleft()
        return None
