"""What decode steps emitted, on its way to the host while later steps already run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch

from higgs_core.runtime.generation import Generation

STEPS_IN_FLIGHT = 4  # on a GPU; a cancelled or ended row sleeps at most so many steps


@dataclass(eq=False)
class Report:
    """One step. speakers: whose row is whose, None for nobody's."""

    tensor: torch.Tensor  # int64 [rows, Q + 1], host memory
    speakers: list[Generation | None]
    arrived: torch.cuda.Event | None

    def emitted(self) -> np.ndarray:
        """int64 [rows, Q + 1], after waiting for it: the column and what the step did."""
        if self.arrived is not None:
            self.arrived.synchronize()
            # A copy: columns are kept, and views of them would keep the pinned memory from the next steps.
            return self.tensor.numpy().copy()
        return self.tensor.numpy()


class Reports:
    """In order of their steps. Copies go through pinned memory and are waited for a few steps later only."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._lag = STEPS_IN_FLIGHT if self._on_gpu else 0
        self._under_way: deque[Report] = deque()

    def __len__(self) -> int:
        return len(self._under_way)

    def send(self, emitted: torch.Tensor, speakers: list[Generation | None]) -> None:
        """Start the copy of `emitted`, int64 [rows, Q + 1], which the next step overwrites."""
        if not self._on_gpu:
            self._under_way.append(Report(emitted.clone(), speakers, None))
            return
        host = torch.empty(emitted.shape, dtype=emitted.dtype, pin_memory=True)
        host.copy_(emitted, non_blocking=True)
        arrived = torch.cuda.Event(blocking=True)  # the wait is steps long; no core need spin through it
        arrived.record()
        self._under_way.append(Report(host, speakers, arrived))

    def next(self, *, leave: bool) -> Report | None:
        """The oldest report, or None. `leave`: keep a few under way, so that the device never waits for the host."""
        if len(self._under_way) > (self._lag if leave else 0):
            return self._under_way.popleft()
        return None

    def forget(self, generation: Generation) -> None:
        """Nobody wants to know what its rows emit any more."""
        for report in self._under_way:
            report.speakers = [None if speaker is generation else speaker for speaker in report.speakers]
