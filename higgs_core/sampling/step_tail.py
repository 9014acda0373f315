"""The end of a decode step: from the logits to the column of each row, and to the input of the next step.

Sampler with RAS, then the delay pattern, then the end rules, then the update of the state. It reads and writes tensors
only, so that it runs the same captured in a CUDA graph or plainly on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from higgs_core.config import ModelConfig
from higgs_core.sampling.decode_state import COLUMN, SEGMENT_ENDED, DecodeState
from higgs_core.sampling.sampler import SamplerRows

Sample = Callable[[torch.Tensor, torch.Tensor, SamplerRows, torch.Tensor, int], torch.Tensor]
"""Signature of `Sampler`."""


class StepTail:
    """Samples the columns of a step from its logits and prepares the input of the next step."""

    def __init__(self, config: ModelConfig, sample: Sample, device: torch.device) -> None:
        self._sample = sample
        self._bos, self._eos = config.stream_bos, config.stream_eos
        self._codebooks = config.num_codebooks
        self._codebook = torch.arange(config.num_codebooks, device=device)  # [Q]

    def __call__(self, state: DecodeState, logits: torch.Tensor, max_top_k: int) -> None:
        """state: views of the rows that ran.  logits: [B, Q, codebook_size]."""
        tokens = self._sample(logits, state.window, state.sampler, state.step, max_top_k)
        # Delay pattern: at the s-th sampled column codebooks beyond s hold stream BOS.
        tokens = tokens.masked_fill(self._codebook > state.sampled[:, None], self._bos)
        # End rules: a running countdown moves one codebook on; else the first codebook that holds EOS starts one.
        is_eos = tokens == self._eos
        found = is_eos.any(-1)
        counting = state.eos_reach > 0
        reach = torch.where(counting, state.eos_reach, torch.where(found, is_eos.int().argmax(-1), 0))
        tokens = tokens.masked_fill(self._codebook < reach[:, None], self._eos)
        next_reach = torch.where(counting | found, reach + 1, 0)
        ended = next_reach >= self._codebooks

        active = state.active
        status = torch.where(ended, SEGMENT_ENDED, COLUMN) * active
        emitted = torch.cat([tokens, status[:, None]], dim=1)
        window = torch.cat([state.window[:, 1:], tokens[:, None]], dim=1)
        goes_on = active & ~ended
        # Only here is the state written, where nothing is allocated any more: a step that runs out of memory before
        # can be run again.
        state.emitted.copy_(emitted)
        state.column.copy_(tokens)
        state.window.copy_(window)
        state.eos_reach.copy_(next_reach)
        state.position.add_(active)
        state.sampled.add_(active)
        state.step.add_(active)
        active.copy_(goes_on)
