"""Launches text steps: one text token for every row that writes, read from the step's output as columns are.

A row deactivates itself behind a token that ends its text. A request that opens a segment after text reads its
`<|audio_out_bos|>` in one more text step, whose token nobody wants; its first decode step follows.
"""

from __future__ import annotations

from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.generation import Generation, Status
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import RowMap, StepOutputs
from higgs_core.sampling.text_state import TEXT_LANES, TextState


class TextStep:
    """Used by the engine's thread only."""

    def __init__(self, slots: Slots, text: TextState, runner: StepRunner, outputs: StepOutputs) -> None:
        self._slots = slots
        self._text = text
        self._runner = runner
        self._outputs = outputs

    @property
    def readers(self) -> list[Generation]:
        """Requests that take part in the next text step: those with text to read, as many as there are lanes."""
        waiting = self._slots.to_read_text
        going = [generation for generation in waiting if generation.next_text is None]
        new = [generation for generation in waiting if generation.next_text is not None]
        return going + new[: TEXT_LANES - len(going)]

    def launch(self) -> None:
        """Enqueue one text step for its readers; other requests wait for a lane."""
        readers = self.readers
        if not readers:
            return
        for generation in readers:
            if generation.next_text is not None:
                self._slots.read_text(generation)
        rows = max(generation.slot for generation in readers) + 1
        emitted = self._text.emitted[:rows]
        host = self._outputs.reserve(emitted)
        self._runner.run_text(rows, max(generation.next_position for generation in readers) + 1)
        row_to_request: RowMap = [None] * rows
        for generation in readers:
            generation.next_text = None
            if generation.status is Status.WRITING:
                row_to_request[generation.slot] = generation
                self._slots.count_step(generation)
            else:
                generation.position += 1
        self._outputs.send(emitted, host, row_to_request, is_text=True)
