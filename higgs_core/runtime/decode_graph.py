"""Runs decode steps and text steps: on a GPU captured in one CUDA graph per number of rows, on a CPU plainly.

A step is the embedding of its input, the layers, a head and the step's tail. It reads and writes the state's tensors in
place and never waits for the host. All graphs are captured before the first request; where one cannot be, its steps run
uncaptured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Protocol

import torch

from higgs_core.kernels.ops import StepTailOp
from higgs_core.model.decoder import Decoder
from higgs_core.runtime.cuda_graph import CudaGraphs, Work
from higgs_core.runtime.step_threads import StepThreads
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import FAST_TOP_K
from higgs_core.sampling.text_state import TextState, TextStepTail

log = logging.getLogger(__name__)

DECODE_ROWS = (1, 2, 4, 8, 16, 32, 128)
"""Rows of captured decode steps, and the number of slots. A step of few rows costs what its weights cost to read,
and one of some hundred rows not much more, so no finer ones are needed: 4 graphs for 8 slots, 8 for 256."""

TEXT_ROWS = (8,)
"""As DECODE_ROWS, of text steps. They are rare, one behind each segment as a rule, so one or two will do."""

_KV_LENGTH_STEP = 64  # on a CPU, where nothing is captured
_TIMED_KV_LENGTH = 256


class Capturer(Protocol):
    def capture(self, work: Work) -> Work:
        """Returns what replays `work`, which has run before; raises where that cannot be done."""


class StepRunner:
    """Owns the captured steps. `run` and `run_text` enqueue one step and return without waiting for the device."""

    def __init__(
        self,
        decoder: Decoder,
        state: DecodeState,
        step_tail: StepTailOp,
        text: TextState,
        text_tail: TextStepTail,
        capturer: Capturer | None,
    ) -> None:
        """capturer: None where steps are not captured, as on a CPU."""
        self._decoder = decoder
        self._state, self._step_tail = state, step_tail
        self._text, self._text_tail = text, text_tail
        self._capturer = capturer
        self._views: dict[int, DecodeState] = {}
        self._text_views: dict[int, TextState] = {}
        self._graphs: dict[int, Work] = {}  # by rows
        self._text_graphs: dict[int, Work] = {}
        self._threads = StepThreads()
        self._prepared = False

    def batch_rows(self, rows: int) -> int:
        """How many rows a decode step runs that has to cover so many."""
        return self._bucket(rows, DECODE_ROWS)

    def run(self, rows: int, max_kv_length: int, max_top_k: int) -> None:
        """One decode step of rows 0..rows. Rows that are not active emit nothing and stay where they are.

        max_kv_length: a bound of the positions that they attend to.  max_top_k: as for `Sampler`.
        """
        rows = self.batch_rows(rows)
        replay = self._graphs.get(rows)
        if replay is None:
            with self._threads.of_step(rows):
                self._step(rows, self._kv_length(max_kv_length), max_top_k)
        else:
            replay()

    def run_text(self, rows: int, max_kv_length: int) -> None:
        """One text step of rows 0..rows. At most `TEXT_LANES` of them may be active."""
        rows = self._bucket(rows, TEXT_ROWS)
        replay = self._text_graphs.get(rows)
        if replay is None:
            with self._threads.of_step(rows):
                self._text_step(rows, self._kv_length(max_kv_length))
        else:
            replay()

    def prepare(self) -> int:
        """Capture every step there will be, once; returns how many were. No request may be speaking or writing.

        Where steps are not captured, the threads that they use are chosen instead.
        """
        if self._prepared:
            return 0
        self._prepared = True
        if self._capturer is None:
            self._choose_threads()
            return 0
        slots, context = self._decoder.cache.slots, self._decoder.cache.context
        every_code = self._decoder.config.codebook_size
        failed = []
        # The largest first: those that follow find room in its memory.
        for rows in sorted({self.batch_rows(rows) for rows in range(1, slots + 1)}, reverse=True):
            failed += self._capture(self._graphs, rows, partial(self._step, rows, context, every_code))
        if self._decoder.weights.text_head is not None:
            for rows in sorted({self._bucket(rows, TEXT_ROWS) for rows in range(1, slots + 1)}, reverse=True):
                failed += self._capture(self._text_graphs, rows, partial(self._text_step, rows, context))
        if failed:
            log.warning(
                "%d of the steps could not be captured in CUDA graphs and run slower (%s)",
                len(failed),
                type(failed[0]).__name__,
                exc_info=failed[0],
            )
        return len(self._graphs) + len(self._text_graphs)

    def view(self, rows: int) -> DecodeState:
        """The state of rows 0..rows: writing to it writes to the whole state."""
        if rows not in self._views:
            self._views[rows] = self._state.rows(0, rows)
        return self._views[rows]

    def _text_view(self, rows: int) -> TextState:
        if rows not in self._text_views:
            self._text_views[rows] = self._text.rows(0, rows)
        return self._text_views[rows]

    def _bucket(self, rows: int, buckets: tuple[int, ...]) -> int:
        if self._capturer is None:
            return rows
        slots = self._decoder.cache.slots
        return min(next((bucket for bucket in buckets if bucket >= rows), slots), slots)

    def _kv_length(self, bound: int) -> int:
        return min(-(-bound // _KV_LENGTH_STEP) * _KV_LENGTH_STEP, self._decoder.cache.context)

    def _step(self, rows: int, max_kv_length: int, max_top_k: int) -> None:
        state = self.view(rows)
        logits = self._decoder.decode_step(state.column, state.position, state.active, max_kv_length)
        self._step_tail(state, logits, max_top_k)

    def _text_step(self, rows: int, max_kv_length: int) -> None:
        state, text = self.view(rows), self._text_view(rows)
        lanes = self._text_tail.lanes(text)
        logits = self._decoder.text_step(text.token, text.position, text.active, max_kv_length, lanes)
        self._text_tail(state, text, lanes, logits)

    def _capture(self, graphs: dict[int, Work], rows: int, step: Callable[[], None]) -> list[Exception]:
        """Put the captured step into `graphs`. Returns why that failed, if it did."""
        assert self._capturer is not None
        try:
            with self._state_kept():
                for _ in range(2):  # every kernel must be loaded and tuned before it can be captured
                    step()
                graphs[rows] = self._capturer.capture(step)
        except Exception as error:
            return [error]
        return []

    def _choose_threads(self) -> None:
        """Time steps of one row and of all, at the length of a short request."""
        slots, length = self._decoder.cache.slots, self._kv_length(_TIMED_KV_LENGTH)
        with self._state_kept():
            chosen = self._threads.measure(lambda rows: self._step(rows, length, FAST_TOP_K), (1, slots))
        for rows, threads in chosen.items():
            log.info("Decode steps from %d rows on use %d threads", rows, threads)

    @contextmanager
    def _state_kept(self) -> Iterator[None]:
        """Whatever steps run inside, the state is afterwards as it was."""
        tensors = [getattr(part, f.name) for part in (self._state, self._text) for f in fields(part)]
        tensors = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
        before = [tensor.clone() for tensor in tensors]
        try:
            yield
        finally:
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)


def capturer_for(device: torch.device) -> Capturer | None:
    """What captures steps on a device; None on a CPU."""
    return CudaGraphs() if device.type == "cuda" else None
