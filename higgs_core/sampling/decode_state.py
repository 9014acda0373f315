"""What the device knows of every slot, as tensors, and how the host prepares and deactivates a row."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from higgs_core.config import ModelConfig
from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.sampler import SamplerRows
from higgs_core.to_device import to_device

IDLE, COLUMN, SEGMENT_ENDED = 0, 1, 2
"""Status of a row's last step, in the last entry of `emitted`: nothing, a column, or the last column of a segment."""


@dataclass(frozen=True, eq=False)
class DecodeState:
    """Rows are slots.

    column [S, Q]: the input of the next step.           position [S]: where that input goes in the KV cache.
    window [S, W, Q]: the last columns, newest last.      step [S]: steps of the request so far; keys its noise.
    sampled [S]: columns sampled in this segment.         eos_reach [S]: codebooks that hold stream EOS next step.
    active [S]: the row is speaking.                      emitted [S, Q + 1]: the last step's column and status.

    Numbers are written with `fill_`: assigning one to an element of a tensor would make the host wait for the GPU.
    """

    column: torch.Tensor
    position: torch.Tensor
    window: torch.Tensor
    step: torch.Tensor
    sampled: torch.Tensor
    eos_reach: torch.Tensor
    active: torch.Tensor
    emitted: torch.Tensor
    sampler: SamplerRows

    @classmethod
    def allocate(cls, config: ModelConfig, slots: int, dummy_position: int, device: torch.device) -> DecodeState:
        def whole(*shape: int, value: int = 0) -> torch.Tensor:
            return torch.full((slots, *shape), value, dtype=torch.int64, device=device)

        return cls(
            column=whole(config.num_codebooks),
            position=whole(value=dummy_position),
            window=whole(MAX_RAS_WINDOW, config.num_codebooks, value=-1),
            step=whole(),
            sampled=whole(),
            eos_reach=whole(),
            active=torch.zeros(slots, dtype=torch.bool, device=device),
            emitted=whole(config.num_codebooks + 1),
            sampler=SamplerRows.allocate(slots, device),
        )

    def rows(self, start: int, stop: int) -> DecodeState:
        """Views of some rows: writing to them writes here."""
        tensors = {f.name: getattr(self, f.name)[start:stop] for f in fields(self) if f.name != "sampler"}
        return DecodeState(**tensors, sampler=self.sampler.rows(start, stop))

    def begin(self, slot: int, params: GenerationParams, seed: int) -> None:
        """A request takes the slot; its row is not active before `begin_segment`."""
        self.sampler.set(slot, params, seed)
        self.active[slot].fill_(False)

    def begin_segment(self, slot: int, history: torch.Tensor, position: int, step: int) -> None:
        """Prepare and activate the row: its next step reads the synthetic column and samples the first of a segment.

        history: int64 [Q, any], every column that RAS may look back to, the synthetic one last.
        position: where the synthetic column goes.
        step: steps taken so far.
        """
        recent = to_device(history[:, -MAX_RAS_WINDOW:].T.contiguous(), self.window.device)
        self.window[slot].fill_(-1)
        self.window[slot, MAX_RAS_WINDOW - recent.shape[0] :] = recent
        self.column[slot] = recent[-1]
        self.position[slot].fill_(position)
        self.step[slot].fill_(step)
        self.sampled[slot].fill_(0)
        self.eos_reach[slot].fill_(0)
        self.active[slot].fill_(True)

    def deactivate(self, slot: int, dummy_position: int) -> None:
        """The slot stops speaking; steps that still run its row write their keys and values to the dummy position."""
        self.active[slot].fill_(False)
        self.position[slot].fill_(dummy_position)

    def move(self, source: int, target: int, dummy_position: int) -> None:
        """One row's state into another row; the source is deactivated."""
        for part in (self, self.sampler):
            for f in fields(part):
                tensor = getattr(part, f.name)
                if isinstance(tensor, torch.Tensor):
                    tensor[target] = tensor[source]
        self.deactivate(source, dummy_position)
