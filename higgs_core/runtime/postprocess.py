"""What came out of a step, taken into its request: columns, ends of segments, text tokens, the end of the request.

Modes of a generation: TEXT -> AUDIO_INIT -> AUDIO_IN_PROGRESS -> TEXT ...
"""

from __future__ import annotations

import time

import numpy as np

from higgs_core.config import ModelConfig
from higgs_core.model.kv_cache import KVCache
from higgs_core.prompt.stop_strings import ends_text
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.generation import FinishReason, Generation, Status
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import StepOutputs
from higgs_core.sampling.decode_state import IDLE, SEGMENT_ENDED


class Postprocess:
    """Used by the engine's thread only."""

    def __init__(
        self, config: ModelConfig, tokenizer: HiggsTokenizer, cache: KVCache, slots: Slots, outputs: StepOutputs
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._cache = cache
        self._slots = slots
        self._outputs = outputs
        self._finished: list[Generation] = []

    @property
    def pending(self) -> bool:
        """Whether there is something for `collect`."""
        return bool(self._outputs) or bool(self._finished)

    def collect(self) -> list[Generation]:
        """Take in the outputs that have arrived; returns who finished. Leaves some in flight while steps are launched.

        Outputs in flight of a request that has finished meanwhile are discarded.
        """
        while (output := self._outputs.next(keep_in_flight=bool(self._slots.launchable))) is not None:
            emitted = output.emitted()
            for row, generation in enumerate(output.row_to_request):
                if generation is not None and generation.status is not Status.FINISHED:
                    self._add_column(generation, emitted[row, :-1], int(emitted[row, -1]))
        finished, self._finished = self._finished, []
        return finished

    def add_text_token(self, generation: Generation, token: int) -> None:
        """Append a token that has to be prefilled next, unless it ends the request."""
        generation.text_token_ids.append(token)
        generation.pending.append(token)
        stops = ends_text(generation.text_token_ids, generation.params.stop_strings, self._tokenizer)
        if stops or token in self._config.eos_token_ids:
            self.finish(generation, "stop")
        else:
            self.finish_if_out_of_steps(generation)

    def finish_if_out_of_steps(self, generation: Generation) -> bool:
        if generation.out_of_steps:
            self.finish(generation, "length")
        return generation.out_of_steps

    def finish(self, generation: Generation, reason: FinishReason) -> None:
        """End a request that has a slot; `collect` returns it."""
        generation.finish_reason = reason
        generation.timeline.decoded = time.perf_counter()
        self._slots.release(generation)
        self._finished.append(generation)

    def _add_column(self, generation: Generation, column: np.ndarray, status: int) -> None:
        """column: int64 [Q]; status: what the step did, as in `DecodeState.emitted`."""
        if status == IDLE:  # the row had ended when the step ran
            return
        generation.append_column(column)
        if generation.timeline.prefilled is None:
            generation.timeline.prefilled = time.perf_counter()
        generation.segments[-1].ended = status == SEGMENT_ENDED
        if generation.on_columns is not None:
            generation.on_columns()
        if status == SEGMENT_ENDED:
            self._end_segment(generation)
        else:
            self.finish_if_out_of_steps(generation)

    def _end_segment(self, generation: Generation) -> None:
        """AUDIO_IN_PROGRESS -> TEXT. `<|audio_eos|>` takes the place in the cache of the last column."""
        generation.end_segment()
        generation.status = Status.WRITING_TEXT
        if self._config.has_skip_layers:
            self._cache.mark_audio(generation.slot, generation.segment_position, generation.position)
        self._slots.deactivate(generation)
        self.add_text_token(generation, self._tokenizer.control.audio_eos)
