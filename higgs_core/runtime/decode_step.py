"""Launches decode steps: one column for every speaking row, and the first column of a segment from prefill's logits.

Several steps stay queued so that the GPU never idles. Each step records its row-to-request map, since slots may move
before its output is read.
"""

from __future__ import annotations

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.ops import StepTailOp
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.generation import Generation, Status
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import StepOutputs
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import max_top_k_for


class DecodeStep:
    """Used by the engine's thread only."""

    def __init__(
        self,
        config: ModelConfig,
        slots: Slots,
        state: DecodeState,
        step_tail: StepTailOp,
        runner: StepRunner,
        outputs: StepOutputs,
    ) -> None:
        self._config = config
        self._slots = slots
        self._state = state
        self._step_tail = step_tail
        self._runner = runner
        self._outputs = outputs

    def warm_up(self) -> int:
        """Capture the usual steps; returns how many. No request may be speaking."""
        return self._runner.prepare()

    def launch(self) -> None:
        """Enqueue one decode step for every speaking row that has steps left."""
        self._slots.close_gap(self._runner.batch_rows)
        launchable = self._slots.launchable
        if not launchable:
            return
        rows = max(generation.slot for generation in launchable) + 1
        max_kv_length = max(generation.position for generation in launchable) + 1
        max_top_k = max_top_k_for([g.params for g in launchable], self._config.codebook_size)
        self._runner.run(rows, max_kv_length, max_top_k)
        row_to_request: list[Generation | None] = [None] * rows
        for generation in launchable:
            row_to_request[generation.slot] = generation
            generation.position += 1  # an upper bound while steps are in flight: a row that has ended stays where it is
        self._outputs.send(self._state.emitted[:rows], row_to_request)
        for generation in launchable:
            self._count(generation)

    def launch_first(self, generation: Generation, logits: torch.Tensor) -> None:
        """Sample the first column of a segment from the logits of the synthetic one, [1, Q, codebook_size]."""
        slot = generation.slot
        self._state.begin_segment(slot, generation.ras_history(), generation.position, generation.step)
        row = self._state.rows(slot, slot + 1)
        self._step_tail(row, logits, max_top_k_for([generation.params], self._config.codebook_size))
        generation.segment_position = generation.position
        generation.status = Status.SPEAKING
        self._outputs.send(row.emitted, [generation])
        self._count(generation)

    def _count(self, generation: Generation) -> None:
        """One more step of the request was launched; after the last one its row is deactivated."""
        generation.launched += 1
        if not generation.may_launch:
            self._slots.deactivate(generation)
