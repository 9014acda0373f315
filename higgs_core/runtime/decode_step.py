"""Launches decode steps: one column for every speaking row.

Several steps stay queued so that the GPU never idles. Each step records its row-to-request map, since slots may move
before its output is read.
"""

from __future__ import annotations

from higgs_core.config import ModelConfig
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import RowMap, StepOutputs
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import max_top_k_for


class DecodeStep:
    """Used by the engine's thread only."""

    def __init__(
        self, config: ModelConfig, slots: Slots, state: DecodeState, runner: StepRunner, outputs: StepOutputs
    ) -> None:
        self._config = config
        self._slots = slots
        self._state = state
        self._runner = runner
        self._outputs = outputs

    def warm_up(self) -> int:
        """Capture the steps; returns how many. No request may have a slot."""
        return self._runner.prepare()

    def launch(self) -> None:
        """Enqueue one decode step for every speaking row that has steps left, and for those that now begin to speak."""
        for generation in self._slots.opened:
            self._slots.speak(generation)
        self._slots.close_gap(self._runner.batch_rows)
        launchable = self._slots.launchable
        if not launchable:
            return
        rows = max(generation.slot for generation in launchable) + 1
        max_kv_length = max(generation.next_position for generation in launchable) + 1
        max_top_k = max_top_k_for([g.params for g in launchable], self._config.codebook_size)
        emitted = self._state.emitted[:rows]
        host = self._outputs.reserve(emitted)
        self._runner.run(rows, max_kv_length, max_top_k)
        row_to_request: RowMap = [None] * rows
        for generation in launchable:
            row_to_request[generation.slot] = generation
        self._outputs.send(emitted, host, row_to_request, is_text=False)
        for generation in launchable:
            self._slots.count_step(generation)
