"""The end of a decode step in one kernel: delay pattern, end rules, next column, windows and counters.

The torch function is `higgs_core.sampling.step_tail.StepTail`, two dozen small operations that each cost a launch.
"""

from __future__ import annotations

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.optional_triton import jit_for_any_alignment, power_of_2, tl
from higgs_core.sampling.decode_state import COLUMN, SEGMENT_ENDED, DecodeState
from higgs_core.sampling.step_tail import Sample


# The first column of a segment is sampled for one row alone, from the middle of the state.
@jit_for_any_alignment("column", "position", "window", "step", "sampled", "eos_reach", "active", "emitted")
def _step_tail_kernel(
    tokens: tl.tensor,
    column: tl.tensor,
    position: tl.tensor,
    window: tl.tensor,
    step: tl.tensor,
    sampled: tl.tensor,
    eos_reach: tl.tensor,
    active: tl.tensor,
    emitted: tl.tensor,
    bos: tl.tensor,
    eos: tl.tensor,
    RUNNING: tl.constexpr,
    ENDED: tl.constexpr,
    CODEBOOKS: tl.constexpr,
    WIDTH: tl.constexpr,
    WINDOW: tl.constexpr,
) -> None:
    """One program per row. WIDTH: CODEBOOKS rounded up to a power of two."""
    row = tl.program_id(0).to(tl.int64)
    codebook = tl.arange(0, WIDTH)
    real = codebook < CODEBOOKS
    token = tl.load(tokens + row * CODEBOOKS + codebook, mask=real, other=-1)
    count = tl.load(sampled + row)
    reach = tl.load(eos_reach + row)
    alive = tl.load(active + row) != 0

    # Delay pattern: at the s-th sampled column codebooks beyond s hold stream BOS.
    token = tl.where(codebook > count, bos, token)
    # End rules: a running countdown moves one codebook on; else the first codebook that holds EOS starts one.
    first = tl.min(tl.where(real & (token == eos), codebook, CODEBOOKS), axis=0)
    counting = reach > 0
    found = first < CODEBOOKS
    reach = tl.where(counting, reach, tl.where(found, first, 0))
    token = tl.where(codebook < reach, eos, token)
    following = tl.where(counting | found, reach + 1, 0)
    ended = following >= CODEBOOKS

    age = tl.arange(0, WINDOW)[:, None]
    line = window + row * WINDOW * CODEBOOKS + codebook[None, :]
    older = (age < WINDOW - 1) & real[None, :]
    shifted = tl.load(line + (age + 1) * CODEBOOKS, mask=older, other=0)
    tl.debug_barrier()  # no thread writes before all have read
    tl.store(line + age * CODEBOOKS, shifted, mask=older)
    tl.store(window + (row * WINDOW + WINDOW - 1) * CODEBOOKS + codebook, token, mask=real)
    tl.store(column + row * CODEBOOKS + codebook, token, mask=real)
    tl.store(emitted + row * (CODEBOOKS + 1) + codebook, token, mask=real)
    status = tl.where(alive, tl.where(ended, ENDED, RUNNING), 0)
    tl.store(emitted + row * (CODEBOOKS + 1) + CODEBOOKS, status.to(tl.int64))

    tl.store(eos_reach + row, following.to(tl.int64))
    tl.store(position + row, tl.load(position + row) + alive.to(tl.int64))
    tl.store(sampled + row, count + alive.to(tl.int64))
    tl.store(step + row, tl.load(step + row) + alive.to(tl.int64))
    tl.store(active + row, alive & (ended == 0))


class TritonStepTail:
    """As `higgs_core.sampling.step_tail.StepTail`, whose signature it has. The rows of a state must be contiguous."""

    def __init__(self, config: ModelConfig, sample: Sample, device: torch.device) -> None:
        self._sample = sample
        self._config = config

    def __call__(self, state: DecodeState, logits: torch.Tensor, max_top_k: int) -> None:
        """state: views of the rows that ran.  logits: float32 [B, Q, codebook_size]."""
        tokens = self._sample(logits, state.window, state.sampler, state.step, max_top_k)
        codebooks = self._config.num_codebooks
        _step_tail_kernel[(tokens.shape[0],)](
            tokens,
            state.column,
            state.position,
            state.window,
            state.step,
            state.sampled,
            state.eos_reach,
            state.active,
            state.emitted,
            self._config.stream_bos,
            self._config.stream_eos,
            RUNNING=COLUMN,
            ENDED=SEGMENT_ENDED,
            CODEBOOKS=codebooks,
            WIDTH=power_of_2(codebooks),
            WINDOW=state.window.shape[1],
            num_warps=4,
        )
