"""The state of every slot as device tensors, and the rules that turn sampled tokens into the next column.

`advance` is the end of a decode step: sampler and RAS, then delay head, then end rules, then the next input. It reads
and writes tensors only, so that it runs the same captured in a CUDA graph or plainly on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from higgs_core.config import ModelConfig
from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.sampler import SamplerRows

# What a row's last step did, in the last entry of `emitted`.
IDLE, COLUMN, SEGMENT_ENDED = 0, 1, 2

Sample = Callable[[torch.Tensor, torch.Tensor, SamplerRows, torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True, eq=False)
class DecodeState:
    """Rows are slots.

    column [S, Q]: the input of the next step.           position [S]: where that input goes in the KV cache.
    window [S, W, Q]: the last columns, newest last.      step [S]: steps of the request so far; keys its noise.
    sampled [S]: columns sampled in this segment.         eos_reach [S]: codebooks that hold stream EOS next step.
    last_step [S]: the step at which the cap cuts.        active [S]: the row is speaking.
    emitted [S, Q + 1]: the column of the last step and what that step did.

    Numbers are written with `fill_`: assigning one to an element of a tensor would make the host wait for the GPU.
    """

    column: torch.Tensor
    position: torch.Tensor
    window: torch.Tensor
    step: torch.Tensor
    sampled: torch.Tensor
    eos_reach: torch.Tensor
    last_step: torch.Tensor
    active: torch.Tensor
    emitted: torch.Tensor
    sampler: SamplerRows

    @classmethod
    def allocate(cls, config: ModelConfig, slots: int, scratch: int, device: torch.device) -> DecodeState:
        def whole(*shape: int, value: int = 0) -> torch.Tensor:
            return torch.full((slots, *shape), value, dtype=torch.int64, device=device)

        return cls(
            column=whole(config.num_codebooks),
            position=whole(value=scratch),
            window=whole(MAX_RAS_WINDOW, config.num_codebooks, value=-1),
            step=whole(),
            sampled=whole(),
            eos_reach=whole(),
            last_step=whole(),
            active=torch.zeros(slots, dtype=torch.bool, device=device),
            emitted=whole(config.num_codebooks + 1),
            sampler=SamplerRows.allocate(slots, device),
        )

    def rows(self, start: int, stop: int) -> DecodeState:
        """Views of some rows: writing to them writes here."""
        tensors = {f.name: getattr(self, f.name)[start:stop] for f in fields(self) if f.name != "sampler"}
        return DecodeState(**tensors, sampler=self.sampler.rows(start, stop))

    def begin(self, slot: int, params: GenerationParams, seed: int, last_step: int) -> None:
        """A request takes the slot; it is silent until `begin_segment`."""
        self.sampler.set(slot, params, seed)
        self.last_step[slot].fill_(last_step)
        self.active[slot].fill_(False)

    def begin_segment(self, slot: int, history: torch.Tensor, position: int, step: int) -> None:
        """Ready the slot for its first sampled column.

        history: int64 [Q, any], every column that RAS may look back to, the synthetic one last.
        position: where the first sampled column will go.  step: steps taken so far.
        """
        recent = history[:, -MAX_RAS_WINDOW:].T.to(self.window.device, non_blocking=True)
        self.window[slot] = -1
        self.window[slot, MAX_RAS_WINDOW - recent.shape[0] :] = recent
        self.position[slot].fill_(position)
        self.step[slot].fill_(step)
        self.sampled[slot].fill_(0)
        self.eos_reach[slot].fill_(0)
        self.active[slot].fill_(True)

    def park(self, slot: int, scratch: int) -> None:
        """The slot stops speaking; whatever steps still run for it write to the scratch position."""
        self.active[slot].fill_(False)
        self.position[slot].fill_(scratch)

    def move(self, source: int, target: int, scratch: int) -> None:
        """One row's state into another row; the source is parked."""
        for part in (self, self.sampler):
            for f in fields(part):
                tensor = getattr(part, f.name)
                if isinstance(tensor, torch.Tensor):
                    tensor[target] = tensor[source]
        self.park(source, scratch)


class Advance:
    """Turns the logits of a step into its columns and readies the next step."""

    def __init__(self, config: ModelConfig, sample: Sample, device: torch.device) -> None:
        self._sample = sample
        self._bos, self._eos = config.stream_bos, config.stream_eos
        self._codebooks = config.num_codebooks
        self._codebook = torch.arange(config.num_codebooks, device=device)  # [Q]

    def __call__(self, state: DecodeState, logits: torch.Tensor, candidates: int) -> None:
        """state: views of the rows that ran.  logits: float32 [B, Q, codebook_size]."""
        tokens = self._sample(logits, state.window, state.sampler, state.step, candidates)
        # Delay head: at the s-th sampled column codebooks beyond s have not begun to speak.
        tokens = tokens.masked_fill(self._codebook > state.sampled[:, None], self._bos)
        # End: a running countdown moves one codebook on; else the first codebook that holds EOS starts one.
        is_eos = tokens == self._eos
        found = is_eos.any(-1)
        counting = state.eos_reach > 0
        reach = torch.where(counting, state.eos_reach, torch.where(found, is_eos.int().argmax(-1), 0))
        tokens = tokens.masked_fill(self._codebook < reach[:, None], self._eos)
        next_reach = torch.where(counting | found, reach + 1, 0)
        ended = next_reach >= self._codebooks

        alive = state.active
        status = torch.where(ended, SEGMENT_ENDED, COLUMN) * alive
        state.emitted.copy_(torch.cat([tokens, status[:, None]], dim=1))
        state.column.copy_(tokens)
        state.window.copy_(torch.cat([state.window[:, 1:], tokens[:, None]], dim=1))
        state.eos_reach.copy_(next_reach)
        state.sampled.add_(alive)
        state.step.add_(alive)
        alive.logical_and_(~ended).logical_and_(state.step < state.last_step)
