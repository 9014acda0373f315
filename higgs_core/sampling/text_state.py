"""What the device knows of the rows that write text, as tensors, and the end of a text step.

A row either speaks, and is active in `DecodeState`, or writes text, and is active here. Sampling parameters and the
count of steps, which keys the noise, are those of `DecodeState`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import TextSampler

TEXT_LANES = 8
"""Rows that may write text at the same time: the text vocabulary is large, so logits are made for these alone."""

TEXT_TOKEN = 1
"""Status of a row's last step, in the last entry of `emitted`: a token; IDLE (0) is nothing."""


@dataclass(frozen=True, eq=False)
class TextState:
    """Rows are slots.

    token [S]: the input of the next step.    position [S]: where that input goes in the KV cache.
    active [S]: the row is writing.           emitted [S, 2]: the last step's token and status.
    """

    token: torch.Tensor
    position: torch.Tensor
    active: torch.Tensor
    emitted: torch.Tensor

    @classmethod
    def allocate(cls, slots: int, dummy_position: int, device: torch.device) -> TextState:
        def whole(*shape: int, value: int = 0) -> torch.Tensor:
            return torch.full((slots, *shape), value, dtype=torch.int64, device=device)

        return cls(
            token=whole(),
            position=whole(value=dummy_position),
            active=torch.zeros(slots, dtype=torch.bool, device=device),
            emitted=whole(2),
        )

    def rows(self, start: int, stop: int) -> TextState:
        """Views of some rows: writing to them writes here."""
        return TextState(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def begin(self, slot: int, token: int, position: int) -> None:
        """The row's next step reads `token` at `position` and samples what follows it."""
        self.token[slot].fill_(token)
        self.position[slot].fill_(position)
        self.active[slot].fill_(True)

    def deactivate(self, slot: int, dummy_position: int) -> None:
        """The slot stops writing; steps that still run its row write their keys and values to the dummy position."""
        self.active[slot].fill_(False)
        self.position[slot].fill_(dummy_position)


class TextStepTail:
    """Samples the tokens of a text step from its logits and prepares the input of the next step."""

    def __init__(self, sample: TextSampler, ends: tuple[int, ...], device: torch.device) -> None:
        """ends: tokens behind which a row writes no further one."""
        self._sample = sample
        self._ends = torch.tensor(ends, dtype=torch.int64, device=device)

    def lanes(self, text: TextState) -> torch.Tensor:
        """Rows among which all active ones are, int64 [T]. No more than TEXT_LANES may be active."""
        count = min(TEXT_LANES, text.active.shape[0])
        return text.active.to(torch.int32).topk(count).indices

    def __call__(self, state: DecodeState, text: TextState, lanes: torch.Tensor, logits: torch.Tensor) -> None:
        """state, text: views of the rows that ran.  logits: float32 [T, V] of the rows `lanes`."""
        step, active = state.step[lanes], text.active[lanes]
        tokens = self._sample(logits, state.sampler.gather(lanes), step)
        goes_on = active & ~(tokens[:, None] == self._ends).any(-1)
        emitted = torch.stack([tokens, active * TEXT_TOKEN], dim=1)
        next_step, next_position = step + active, text.position[lanes] + active
        # Nothing is written before all is computed, as in `StepTail`.
        text.emitted.zero_()
        text.emitted.index_copy_(0, lanes, emitted)
        text.token.index_copy_(0, lanes, tokens)
        text.position.index_copy_(0, lanes, next_position)
        state.step.index_copy_(0, lanes, next_step)
        text.active.index_copy_(0, lanes, goes_on)
