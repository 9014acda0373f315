"""Runs decode steps: captured in one CUDA graph per (rows, used length, candidates) on a GPU, plainly on a CPU.

A step is embedding sum, layers, audio head, sampler, RAS, delay and end rules, next column. It reads and writes the
state's tensors in place and never touches the host.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from higgs_core.kernels.ops import AdvanceState
from higgs_core.model.decoder import Decoder
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import FEW_CANDIDATES

log = logging.getLogger(__name__)

ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_SHORTEST_USED = 512  # on a GPU; a graph a power of two of length keeps their number small
_USUAL_LENGTHS = (512, 1024, 2048)  # captured before the first request; longer ones when they come up
_USED_STEP = 64  # on a CPU, where a length costs nothing to change


@dataclass(frozen=True)
class StepShape:
    """What a captured step is specific to. rows: first rows of the cache. used: bound of the lengths attended to."""

    rows: int
    used: int
    candidates: int


class StepRunner:
    """Owns the captured steps. `run` enqueues one step and returns without waiting for the device."""

    def __init__(self, decoder: Decoder, state: DecodeState, advance: AdvanceState, *, capture: bool) -> None:
        self._decoder = decoder
        self._state = state
        self._advance = advance
        self._capture = capture
        self._views: dict[int, DecodeState] = {}
        self._graphs: dict[StepShape, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # the graphs share their memory; one runs at a time

    def shape(self, rows: int, used: int, candidates: int) -> StepShape:
        """The smallest shape of a step that covers so many rows and positions."""
        cache = self._decoder.cache
        if self._capture:
            rows = min(next((bucket for bucket in ROW_BUCKETS if bucket >= rows), cache.slots), cache.slots)
            used = max(1 << (used - 1).bit_length(), _SHORTEST_USED)
        else:
            used = -(-used // _USED_STEP) * _USED_STEP
        return StepShape(rows, min(used, cache.context), candidates)

    def run(self, rows: int, used: int, candidates: int) -> None:
        """One decode step of rows 0..rows. Rows that are not active emit nothing and stay where they are."""
        shape = self.shape(rows, used, candidates)
        if not self._capture:
            self._step(shape)
            return
        if shape not in self._graphs:
            self._graphs[shape] = self._captured(shape)
        self._graphs[shape].replay()

    def prepare(self) -> int:
        """Capture the steps that short requests need, for every number of rows; returns how many were captured."""
        if not self._capture:
            return 0
        slots = self._decoder.cache.slots
        rows = [bucket for bucket in ROW_BUCKETS if bucket < 2 * slots]
        wanted = {self.shape(min(count, slots), used, FEW_CANDIDATES) for count in rows for used in _USUAL_LENGTHS}
        for shape in sorted(wanted - self._graphs.keys(), key=lambda shape: (-shape.rows, -shape.used)):
            self._graphs[shape] = self._captured(shape)
        return len(wanted)

    def view(self, rows: int) -> DecodeState:
        if rows not in self._views:
            self._views[rows] = self._state.rows(0, rows)
        return self._views[rows]

    def _step(self, shape: StepShape) -> None:
        state = self.view(shape.rows)
        lengths = (state.position + 1).where(state.active, 1)
        logits = self._decoder.decode_step(state.column, state.position, lengths, shape.used)
        state.position.add_(state.active)
        self._advance(state, logits, shape.candidates)

    def _captured(self, shape: StepShape) -> torch.cuda.CUDAGraph:
        """Capturing runs the step twice to warm kernels up, so every row sleeps meanwhile."""
        state = self.view(shape.rows)
        awake = state.active.clone()
        parked, column, window = state.position.clone(), state.column.clone(), state.window.clone()
        reach = state.eos_reach.clone()
        state.active.zero_()
        # On the stream that prefill uses: cuBLAS keeps tens of MB for every stream that it has ever seen.
        for _ in range(2):
            self._step(shape)
        graph = torch.cuda.CUDAGraph()
        # The codec's thread may use the device meanwhile; only what this thread does is captured.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step(shape)
        self._pool = self._pool or graph.pool()
        state.column.copy_(column)
        state.window.copy_(window)
        state.eos_reach.copy_(reach)
        state.position.copy_(parked)
        state.active.copy_(awake)
        log.debug("Captured a decode step for %s", shape)
        return graph
