"""What came out of a step, taken into its request: columns, ends of segments, text tokens, the end of the request.

Modes of a generation: TEXT -> AUDIO_INIT -> AUDIO_IN_PROGRESS -> TEXT ...
"""

from __future__ import annotations

import time

import numpy as np

from higgs_core.failures.watchdog import Heartbeat
from higgs_core.model.decoder import Decoder
from higgs_core.prompt.stop_strings import ends_text
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.generation import FinishReason, Generation, Status
from higgs_core.runtime.slots import Slots
from higgs_core.runtime.step_output import StepOutputs
from higgs_core.sampling.decode_state import IDLE, SEGMENT_ENDED


class Postprocess:
    """Used by the engine's thread only."""

    def __init__(
        self, decoder: Decoder, tokenizer: HiggsTokenizer, slots: Slots, outputs: StepOutputs, heartbeat: Heartbeat
    ) -> None:
        """heartbeat: of the engine's thread."""
        self._heartbeat = heartbeat
        self._config, self._cache = decoder.config, decoder.cache
        self._has_text_head = decoder.weights.text_head is not None
        self._tokenizer = tokenizer
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
        while (output := self._outputs.next(keep_in_flight=self._slots.has_steps_left)) is not None:
            self._heartbeat.beat()
            emitted = output.emitted()
            for row, generation in enumerate(output.row_to_request):
                if generation is None or generation.status is Status.FINISHED or emitted[row, -1] == IDLE:
                    continue  # the request or the row had ended when the step ran
                if generation.timeline.prefilled is None:
                    generation.timeline.prefilled = time.perf_counter()
                if output.is_text:
                    self._add_text(generation, int(emitted[row, 0]))
                else:
                    self._add_column(generation, emitted[row, :-1], int(emitted[row, -1]))
        finished, self._finished = self._finished, []
        return finished

    def open_segment(self, generation: Generation, reads: int | None) -> None:
        """AUDIO_INIT: begin a segment, unless that was the last step. reads: as `Generation.next_text`."""
        generation.begin_segment(self._config.stream_bos, self._tokenizer.control.audio_out)
        if not self._finish_if_out_of_steps(generation):
            generation.status, generation.next_text = Status.OPENING, reads

    def write_text(self, generation: Generation, reads: int) -> None:
        """TEXT: text steps sample its tokens, the first of them behind the token `reads`."""
        generation.status, generation.next_text = Status.WRITING, reads

    def _add_column(self, generation: Generation, column: np.ndarray, status: int) -> None:
        """column: int64 [Q]; status: what the step did, as in `DecodeState.emitted`."""
        generation.append_column(column)
        generation.segments[-1].ended = status == SEGMENT_ENDED
        if generation.on_columns is not None:
            generation.on_columns()
        if status == SEGMENT_ENDED:
            self._end_segment(generation)
        else:
            self._finish_if_out_of_steps(generation)

    def _end_segment(self, generation: Generation) -> None:
        """AUDIO_IN_PROGRESS -> TEXT. `<|audio_eos|>` takes the place in the cache of the last column."""
        generation.forget_surplus_steps()
        sampled = len(generation.segments[-1].columns) - 1
        self._cache.mark_audio(generation.slot, generation.position - sampled, generation.position)
        audio_eos = self._tokenizer.control.audio_eos
        generation.text_token_ids.append(audio_eos)
        if self._finish_if_ended(generation):
            return
        if self._has_text_head:
            self._slots.deactivate(generation)
            self.write_text(generation, audio_eos)
        else:
            self._finish(generation, "stop")  # this checkpoint can only speak

    def _add_text(self, generation: Generation, token: int) -> None:
        generation.append_text(token)
        if self._finish_if_ended(generation):
            return
        if token == self._tokenizer.control.audio_out_bos:
            generation.forget_surplus_steps()
            self.open_segment(generation, reads=token)

    def _finish_if_ended(self, generation: Generation) -> bool:
        """Whether the text token written last ends the request."""
        written = generation.text_token_ids
        stops = ends_text(written, generation.params.stop_strings, self._tokenizer)
        if stops or written[-1] in self._config.eos_token_ids:
            self._finish(generation, "stop")
            return True
        return self._finish_if_out_of_steps(generation)

    def _finish_if_out_of_steps(self, generation: Generation) -> bool:
        if generation.out_of_steps:
            self._finish(generation, "length")
        return generation.out_of_steps

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        """End a request that has a slot; `collect` returns it."""
        generation.finish_reason = reason
        generation.timeline.decoded = time.perf_counter()
        self._slots.release(generation)
        self._finished.append(generation)
