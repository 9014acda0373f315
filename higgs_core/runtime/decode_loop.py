"""The modes of generation over the slots of one device: TEXT -> AUDIO_INIT -> AUDIO_IN_PROGRESS -> TEXT ...

Prompts and text tokens go through `prefill`, slot by slot; columns go through captured decode steps, all speaking slots
at once. Columns come back through host buffers a few steps late, which is why every step keeps a list of whose row was
whose.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from higgs_core.kernels.ops import AdvanceState
from higgs_core.model.decoder import Decoder
from higgs_core.prompt.stop_strings import ends_text
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.generation import FinishReason, Generation
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.runtime.step_output import Report, Reports
from higgs_core.sampling.decode_state import IDLE, SEGMENT_ENDED, DecodeState
from higgs_core.sampling.sampler import TextSampler, candidates_for

PREFILL_PIECE = 1024  # positions; a longer prompt lets running requests take a step between pieces


class DecodeLoop:
    """Slots and what happens in them. Used by one thread."""

    def __init__(
        self,
        decoder: Decoder,
        state: DecodeState,
        advance: AdvanceState,
        runner: StepRunner,
        tokenizer: HiggsTokenizer,
        prefixes: PrefixCache,
    ) -> None:
        self._decoder, self._state, self._advance = decoder, state, advance
        self._runner, self._tokenizer, self._prefixes = runner, tokenizer, prefixes
        self._cache, self._config = decoder.cache, decoder.config
        self._device = state.column.device
        control = tokenizer.control
        self._sample_text = TextSampler(self._config.vocab_size, (control.audio_in, control.audio_out), self._device)
        self._slots: list[Generation | None] = [None] * self._cache.slots
        self._reports = Reports(self._device)
        self._done: list[Generation] = []

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def slots(self) -> int:
        return len(self._slots)

    @property
    def occupied(self) -> list[Generation]:
        return [generation for generation in self._slots if generation is not None]

    @property
    def unresolved(self) -> list[Generation]:
        """Everybody who was admitted and not yet handed back by `collect`."""
        return [*self.occupied, *self._done]

    @property
    def has_free_slot(self) -> bool:
        return None in self._slots

    @property
    def busy(self) -> bool:
        return any(self._slots) or bool(self._reports) or bool(self._done)

    @property
    def speaking(self) -> list[Generation]:
        return [generation for generation in self.occupied if generation.speaking]

    def readers(self) -> list[Generation]:
        """Requests with a prompt or text to read, those in mid-text first, then by arrival."""
        readers = [generation for generation in self.occupied if not generation.speaking]
        return sorted(readers, key=lambda g: (not g.prefilled_prompt, g.timeline.admitted or 0.0))

    def warm_up(self) -> int:
        """Capture the usual steps; returns how many. Nobody may be speaking."""
        return self._runner.prepare()

    def admit(self, generation: Generation) -> None:
        """Give the lowest free slot, so that the rows of a step stay few."""
        slot = self._slots.index(None)
        self._slots[slot] = generation
        generation.slot = slot
        generation.timeline.admitted = time.perf_counter()
        room = self._cache.context - generation.prompt.length
        generation.step_limit = min(generation.params.max_new_tokens, room)
        self._state.begin(slot, generation.params, generation.seed, generation.step_limit)
        self._state.park(slot, self._cache.scratch)

    def release(self, generation: Generation) -> None:
        """Free the slot. Steps under way still run its row; nobody reads what they write."""
        slot = generation.slot
        self._state.park(slot, self._cache.scratch)  # first: if the device fails here, the slot still knows whose it is
        self._slots[slot] = None
        generation.speaking = False
        generation.slot = -1
        self._reports.forget(generation)

    def read(self, generation: Generation) -> int:
        """One bounded piece of what the model has to read before the request can speak (again); returns positions."""
        before = generation.position
        if not generation.prefilled_prompt:
            self._prefill_piece(generation)
        else:
            self._read_pending(generation)
        return generation.position - before

    def launch_step(self) -> None:
        """Enqueue one decode step for every speaking row."""
        self._close_gaps()
        speaking = self.speaking
        if not speaking:
            return
        rows = max(generation.slot for generation in speaking) + 1
        used = max(generation.position for generation in speaking) + 1
        candidates = candidates_for([g.params for g in speaking], self._config.codebook_size)
        self._runner.run(rows, used, candidates)
        speakers: list[Generation | None] = [None] * rows
        for generation in speaking:
            speakers[generation.slot] = generation
            # A bound while steps are under way: a row that ends early stays where it is.
            generation.position = min(generation.position + 1, self._cache.context - 1)
        self._reports.send(self._state.emitted[:rows], speakers)

    def collect(self) -> list[Generation]:
        """Take in the steps that have arrived, leaving a few under way while somebody speaks; returns who finished."""
        while (report := self._reports.next(leave=bool(self.speaking))) is not None:
            self._take_in(report)
        done, self._done = self._done, []
        return done

    def _prefill_piece(self, generation: Generation) -> None:
        prompt, slot = generation.prompt, generation.slot
        if generation.position == 0:
            generation.position = generation.cached_positions = self._prefixes.fetch(prompt, slot, self._cache)
        # Split at the shared prefix whether it was cached or not, so that both ways compute the same.
        start = generation.position
        goal = prompt.prefix_length if start < prompt.prefix_length else prompt.length
        stop = min(start + PREFILL_PIECE, goal)
        last = stop == prompt.length
        is_audio = prompt.is_audio[start:stop]
        before = int(prompt.is_audio[:start].sum())
        columns = prompt.columns[:, before : before + int(is_audio.sum())]
        ids = prompt.positions[start:stop]
        opens_audio = last and generation.params.force_audio_gen
        hidden = self._prefill(generation, ids, is_audio, columns, opens_audio=opens_audio)
        if stop == prompt.prefix_length:
            self._prefixes.keep(prompt, slot, self._cache)
        if last:
            generation.prefilled_prompt = True
            self._after_reading(generation, hidden, opens_audio=opens_audio)
            if self._device.type == "cpu" or not opens_audio:
                generation.timeline.prefilled = time.perf_counter()

    def _read_pending(self, generation: Generation) -> None:
        """TEXT: read the tokens written last, then speak or write the next one."""
        ids = torch.tensor(generation.pending, dtype=torch.long)
        opens_audio = generation.pending[-1] == self._tokenizer.control.audio_out_bos
        generation.pending.clear()
        silent = torch.zeros(ids.shape[0], dtype=torch.bool)
        no_columns = torch.empty(self._config.num_codebooks, 0, dtype=torch.long)
        hidden = self._prefill(generation, ids, silent, no_columns, opens_audio=opens_audio)
        self._after_reading(generation, hidden, opens_audio=opens_audio)

    def _prefill(
        self,
        generation: Generation,
        ids: torch.Tensor,  # int64 [L]
        is_audio: torch.Tensor,  # bool [L]
        columns: torch.Tensor,  # int64 [Q, A]
        *,
        opens_audio: bool,
    ) -> torch.Tensor:
        """Run positions of a slot; `opens_audio` appends the synthetic column, so that its logits come out."""
        if opens_audio:
            generation.begin_segment(self._config.stream_bos, self._tokenizer.control.audio_out)
            synthetic = torch.full((self._config.num_codebooks, 1), self._config.stream_bos)
            columns = torch.cat([columns, synthetic], dim=1)
            ids = torch.cat([ids, ids.new_tensor([self._tokenizer.control.audio_out])])
            is_audio = torch.cat([is_audio, is_audio.new_tensor([True])])
        hidden = self._decoder.prefill(
            generation.slot,
            generation.position,
            ids.to(self._device, non_blocking=True),
            is_audio.nonzero()[:, 0].to(self._device, non_blocking=True),
            (~is_audio).nonzero()[:, 0].to(self._device, non_blocking=True),
            columns.T.contiguous().to(self._device, non_blocking=True),
        )
        generation.position += ids.shape[0]
        return hidden

    def _after_reading(self, generation: Generation, hidden: torch.Tensor, *, opens_audio: bool) -> None:
        if self._reached_limit(generation):
            return
        if opens_audio:
            self._speak(generation, hidden)
        else:
            self._write_token(generation, hidden)

    def _speak(self, generation: Generation, hidden: torch.Tensor) -> None:
        """The first sampled column of a segment, from the logits of the synthetic one."""
        slot = generation.slot
        self._state.begin_segment(slot, generation.ras_history(), generation.position, generation.step)
        row = self._state.rows(slot, slot + 1)
        candidates = candidates_for([generation.params], self._config.codebook_size)
        self._advance(row, self._decoder.audio_logits(hidden), candidates)
        generation.segment_position = generation.position
        generation.speaking = True
        self._reports.send(row.emitted, [generation])

    def _write_token(self, generation: Generation, hidden: torch.Tensor) -> None:
        """TEXT: sample one token of the text head."""
        if self._decoder.weights.text_head is None:
            self._finish(generation, "stop")  # this checkpoint can only speak
            return
        rows = self._state.sampler.rows(generation.slot, generation.slot + 1)
        step = torch.tensor([generation.step], device=self._device)
        token = int(self._sample_text(self._decoder.text_logits(hidden), rows, step))
        generation.step += 1
        self._append_text(generation, token)

    def _append_text(self, generation: Generation, token: int) -> None:
        generation.text_token_ids.append(token)
        generation.pending.append(token)
        stops = ends_text(generation.text_token_ids, generation.params.stop_strings, self._tokenizer)
        if stops or token in self._config.eos_token_ids:
            self._finish(generation, "stop")
        else:
            self._reached_limit(generation)

    def _reached_limit(self, generation: Generation) -> bool:
        if generation.step < generation.step_limit:
            return False
        self._finish(generation, "length")
        return True

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        generation.finish_reason = reason
        generation.timeline.decoded = time.perf_counter()
        self.release(generation)
        self._done.append(generation)

    def _take_in(self, report: Report) -> None:
        emitted = report.emitted()
        for row, generation in enumerate(report.speakers):
            if generation is not None and generation.finish_reason is None:
                self._take_column(generation, emitted[row, :-1], int(emitted[row, -1]))

    def _take_column(self, generation: Generation, column: np.ndarray, status: int) -> None:
        if status == IDLE:
            return
        generation.append_column(column)
        if generation.timeline.prefilled is None:
            generation.timeline.prefilled = time.perf_counter()
        segment = generation.segments[-1]
        if status == SEGMENT_ENDED:
            segment.ended = True
        if generation.on_columns is not None:
            generation.on_columns(generation)
        if status == SEGMENT_ENDED:
            self._end_segment(generation)
        else:
            self._reached_limit(generation)

    def _end_segment(self, generation: Generation) -> None:
        """AUDIO_IN_PROGRESS -> TEXT. The last column is never read; `<|audio_eos|>` takes its place in the cache."""
        generation.end_segment()
        if self._config.has_skip_layers:
            self._cache.mark_audio(generation.slot, generation.segment_position, generation.position)
        self._state.park(generation.slot, self._cache.scratch)
        self._append_text(generation, self._tokenizer.control.audio_eos)

    def _close_gaps(self) -> None:
        """Move the last slot down when that makes the next step's rows fewer."""
        speaking = self.speaking
        if not speaking or None not in self._slots:
            return
        last = max(speaking, key=lambda generation: generation.slot)
        free = self._slots.index(None)
        wanted = self._runner.shape(len(speaking), 1, 1).rows
        if free >= last.slot or self._runner.shape(last.slot + 1, 1, 1).rows <= wanted:
            return
        self._cache.copy_prefix(last.slot, free, last.position + 1)
        self._state.move(last.slot, free, self._cache.scratch)
        self._slots[free], self._slots[last.slot] = last, None
        last.slot = free
