"""Runs decode steps: on a GPU captured in one CUDA graph per (rows, KV length, max_top_k), on a CPU plainly.

A step is the embedding of the columns, the layers, the audio head and the step tail. It reads and writes the state's
tensors in place and never waits for the host.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from higgs_core.kernels.ops import StepTailOp
from higgs_core.model.decoder import Decoder
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import FAST_TOP_K

log = logging.getLogger(__name__)

ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_MIN_KV_LENGTH = 512  # on a GPU; one graph per power of two keeps their number small
_USUAL_KV_LENGTHS = (512, 1024, 2048)  # captured before the first request; longer ones when they come up
_KV_LENGTH_STEP = 64  # on a CPU, where nothing is captured


@dataclass(frozen=True)
class StepShape:
    """What a captured step is specific to. rows: first rows of the cache. max_kv_length: positions attended to."""

    rows: int
    max_kv_length: int
    max_top_k: int


class StepRunner:
    """Owns the captured steps. `run` enqueues one step and returns without waiting for the device."""

    def __init__(self, decoder: Decoder, state: DecodeState, step_tail: StepTailOp, *, capture: bool) -> None:
        self._decoder = decoder
        self._state = state
        self._step_tail = step_tail
        self._capture = capture
        self._views: dict[int, DecodeState] = {}
        self._graphs: dict[StepShape, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # the graphs share their memory; one runs at a time

    def shape(self, rows: int, max_kv_length: int, max_top_k: int) -> StepShape:
        """The smallest shape of a step that covers so many rows and positions."""
        if self._capture:
            max_kv_length = max(1 << (max_kv_length - 1).bit_length(), _MIN_KV_LENGTH)
        else:
            max_kv_length = -(-max_kv_length // _KV_LENGTH_STEP) * _KV_LENGTH_STEP
        return StepShape(self.batch_rows(rows), min(max_kv_length, self._decoder.cache.context), max_top_k)

    def batch_rows(self, rows: int) -> int:
        """How many rows a step runs that has to cover so many."""
        if not self._capture:
            return rows
        slots = self._decoder.cache.slots
        return min(next((bucket for bucket in ROW_BUCKETS if bucket >= rows), slots), slots)

    def run(self, rows: int, max_kv_length: int, max_top_k: int) -> None:
        """One decode step of rows 0..rows. Rows that are not active emit nothing and stay where they are."""
        shape = self.shape(rows, max_kv_length, max_top_k)
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
        wanted = {self.shape(min(n, slots), length, FAST_TOP_K) for n in rows for length in _USUAL_KV_LENGTHS}
        for shape in sorted(wanted - self._graphs.keys(), key=lambda shape: (-shape.rows, -shape.max_kv_length)):
            self._graphs[shape] = self._captured(shape)
        return len(wanted)

    def view(self, rows: int) -> DecodeState:
        """The state of rows 0..rows: writing to it writes to the whole state."""
        if rows not in self._views:
            self._views[rows] = self._state.rows(0, rows)
        return self._views[rows]

    def _step(self, shape: StepShape) -> None:
        state = self.view(shape.rows)
        logits = self._decoder.decode_step(state.column, state.position, state.active, shape.max_kv_length)
        self._step_tail(state, logits, shape.max_top_k)

    def _captured(self, shape: StepShape) -> torch.cuda.CUDAGraph:
        """Capturing runs the step twice to warm kernels up, so every row is inactive meanwhile."""
        state = self.view(shape.rows)
        changed = (state.column, state.window, state.eos_reach, state.position, state.active)
        before = [tensor.clone() for tensor in changed]
        state.active.zero_()
        # On the stream that prefill uses: cuBLAS keeps tens of MB for every stream that it has ever seen.
        for _ in range(2):
            self._step(shape)
        graph = torch.cuda.CUDAGraph()
        # The codec's thread may use the device meanwhile; only what this thread does is captured.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step(shape)
        self._pool = self._pool or graph.pool()
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        log.debug("Captured a decode step for %s", shape)
        return graph
