"""Prefill: prompts in chunks, and the text tokens that a request has written, each followed by what comes next.

After the last position of a prompt or a text the request either speaks (AUDIO_INIT: a synthetic column is appended, and
the first real one is sampled from its logits) or writes one more text token.
"""

from __future__ import annotations

import time

import torch

from higgs_core.model.decoder import Decoder
from higgs_core.prompt.tokenizer import HiggsTokenizer
from higgs_core.runtime.decode_step import DecodeStep
from higgs_core.runtime.generation import Generation, Status
from higgs_core.runtime.postprocess import Postprocess
from higgs_core.runtime.prefix_cache import PrefixCache
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import TextSampler

PREFILL_CHUNK = 1024
"""Positions prefilled at once; speaking requests take a step between the chunks of a longer prompt."""


class Prefill:
    """Used by the engine's thread only."""

    def __init__(
        self,
        decoder: Decoder,
        state: DecodeState,
        tokenizer: HiggsTokenizer,
        prefixes: PrefixCache,
        decode_step: DecodeStep,
        postprocess: Postprocess,
    ) -> None:
        self._decoder, self._cache, self._config = decoder, decoder.cache, decoder.config
        self._state = state
        self._control = tokenizer.control
        self._prefixes = prefixes
        self._decode_step, self._postprocess = decode_step, postprocess
        self._device = state.column.device
        never = (self._control.audio_in, self._control.audio_out)
        self._sample_text = TextSampler(self._config.vocab_size, never, self._device)

    def run(self, generation: Generation) -> int:
        """Prefill one chunk of the prompt, or the text written last; returns how many positions."""
        before = generation.position
        if generation.status is Status.PREFILLING:
            self._prompt_chunk(generation)
        else:
            self._pending_text(generation)
        return generation.position - before

    def _prompt_chunk(self, generation: Generation) -> None:
        prompt, slot = generation.prompt, generation.slot
        if generation.position == 0:
            generation.position = generation.cached_positions = self._prefixes.fetch(prompt, slot, self._cache)
        # Split at the shared prefix whether it was cached or not, so that both ways compute the same.
        start = generation.position
        goal = prompt.prefix_length if start < prompt.prefix_length else prompt.length
        stop = min(start + PREFILL_CHUNK, goal)
        last = stop == prompt.length
        is_audio = prompt.is_audio[start:stop]
        before = int(prompt.is_audio[:start].sum())
        columns = prompt.columns[:, before : before + int(is_audio.sum())]
        opens_audio = last and generation.params.force_audio_gen
        hidden = self._forward(generation, prompt.positions[start:stop], is_audio, columns, opens_audio=opens_audio)
        if stop == prompt.prefix_length:
            self._prefixes.store(prompt, slot, self._cache)
        if last:
            self._continue(generation, hidden, opens_audio=opens_audio)
            if self._device.type == "cpu" or not opens_audio:
                generation.timeline.prefilled = time.perf_counter()

    def _pending_text(self, generation: Generation) -> None:
        ids = torch.tensor(generation.pending, dtype=torch.long)
        opens_audio = generation.pending[-1] == self._control.audio_out_bos
        generation.pending.clear()
        no_audio = torch.zeros(ids.shape[0], dtype=torch.bool)
        no_columns = torch.empty(self._config.num_codebooks, 0, dtype=torch.long)
        hidden = self._forward(generation, ids, no_audio, no_columns, opens_audio=opens_audio)
        self._continue(generation, hidden, opens_audio=opens_audio)

    def _forward(
        self,
        generation: Generation,
        ids: torch.Tensor,  # int64 [L]
        is_audio: torch.Tensor,  # bool [L]
        columns: torch.Tensor,  # int64 [Q, A]
        *,
        opens_audio: bool,
    ) -> torch.Tensor:  # [1, H], of the last position
        """Run positions of a slot; `opens_audio` appends the synthetic column, so that its logits come out."""
        if opens_audio:
            generation.begin_segment(self._config.stream_bos, self._control.audio_out)
            synthetic = torch.full((self._config.num_codebooks, 1), self._config.stream_bos)
            columns = torch.cat([columns, synthetic], dim=1)
            ids = torch.cat([ids, ids.new_tensor([self._control.audio_out])])
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

    def _continue(self, generation: Generation, hidden: torch.Tensor, *, opens_audio: bool) -> None:
        if self._postprocess.finish_if_out_of_steps(generation):
            return
        if opens_audio:
            self._decode_step.launch_first(generation, self._decoder.audio_logits(hidden))
        else:
            self._write_token(generation, hidden)

    def _write_token(self, generation: Generation, hidden: torch.Tensor) -> None:
        """TEXT: sample one token of the text head."""
        generation.status = Status.WRITING_TEXT
        if self._decoder.weights.text_head is None:
            self._postprocess.finish(generation, "stop")  # this checkpoint can only speak
            return
        rows = self._state.sampler.rows(generation.slot, generation.slot + 1)
        step = torch.tensor([generation.step], device=self._device)
        token = int(self._sample_text(self._decoder.text_logits(hidden), rows, step))
        generation.take_step()
        self._postprocess.add_text_token(generation, token)
