"""The end of a decode step in one kernel: sampler, delay pattern, end rules, next column, windows and counters.

The torch function is `higgs_core.sampling.step_tail.StepTail`, two dozen small operations that each cost a launch. A
program samples one codebook of a row; the last of a row's programs to finish does the rest.
"""

from __future__ import annotations

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.optional_triton import jit, jit_for_any_alignment, power_of_2, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous
from higgs_core.kernels.sampler import TritonSampler, draw
from higgs_core.sampling.decode_state import COLUMN, SEGMENT_ENDED, DecodeState
from higgs_core.sampling.step_tail import Sample, StepTail

_MAX_ROWS = 1024  # of a batch; sizes a small buffer


@jit
def _advance(
    row: tl.tensor,
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
    """From a row's sampled tokens to its next state. WIDTH: CODEBOOKS rounded up to a power of two."""
    codebook = tl.arange(0, WIDTH)
    real = codebook < CODEBOOKS
    # .cg bypasses the L1 cache, as programs on other multiprocessors wrote these tokens.
    token = tl.load(tokens + row * CODEBOOKS + codebook, mask=real, other=-1, cache_modifier=".cg")
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


# The first column of a segment is sampled for one row alone, from the middle of the state.
@jit_for_any_alignment(
    "temperatures",
    "top_ks",
    "top_ps",
    "ras_windows",
    "ras_max_num_repeats",
    "seeds",
    "column",
    "position",
    "window",
    "step",
    "sampled",
    "eos_reach",
    "active",
    "emitted",
)
def _step_tail_kernel(
    logits: tl.tensor,
    temperatures: tl.tensor,
    top_ks: tl.tensor,
    top_ps: tl.tensor,
    ras_windows: tl.tensor,
    ras_max_num_repeats: tl.tensor,
    seeds: tl.tensor,
    tokens: tl.tensor,
    arrivals: tl.tensor,
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
    CODES: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per row and codebook. `arrivals` [B] holds zeros before and after."""
    wait_for_previous(PDL)
    let_next_start(PDL)
    row, codebook = tl.program_id(0).to(tl.int64), tl.program_id(1)
    token = draw(
        row,
        codebook,
        logits,
        window,
        temperatures,
        top_ks,
        top_ps,
        ras_windows,
        ras_max_num_repeats,
        seeds,
        step,
        WINDOW * CODEBOOKS,
        CODEBOOKS,
        CODES,
        WINDOW,
        BLOCK,
    )
    tl.store(tokens + row * CODEBOOKS + codebook, token)
    # The barrier and acq_rel order every thread's loads and stores before the count: the program that counts last sees
    # all tokens, and no other still reads the state that it overwrites.
    tl.debug_barrier()
    if tl.atomic_add(arrivals + row, 1, sem="acq_rel", scope="gpu") == CODEBOOKS - 1:
        _advance(
            row,
            tokens,
            column,
            position,
            window,
            step,
            sampled,
            eos_reach,
            active,
            emitted,
            bos,
            eos,
            RUNNING,
            ENDED,
            CODEBOOKS,
            WIDTH,
            WINDOW,
        )
        tl.store(arrivals + row, 0)


class TritonStepTail:
    """As `higgs_core.sampling.step_tail.StepTail`, whose signature it has. The rows of a state must be contiguous.

    The kernel draws as `TritonSampler` does. With another sampler this is the torch function.
    """

    def __init__(self, config: ModelConfig, sample: Sample, device: torch.device, *, pdl: bool = False) -> None:
        """pdl: launch as a programmatic dependent of the kernel before."""
        self._config, self._pdl = config, pdl
        self._plain = None if isinstance(sample, TritonSampler) else StepTail(config, sample, device)
        self._arrivals = torch.zeros(_MAX_ROWS, dtype=torch.int32, device=device)

    def __call__(self, state: DecodeState, logits: torch.Tensor, max_top_k: int) -> None:
        """state: views of the rows that ran.  logits: [B, Q, codebook_size], contiguous.  max_top_k: of no use here."""
        if self._plain:
            self._plain(state, logits, max_top_k)
            return
        (rows, codebooks, codes), sampler = logits.shape, state.sampler
        tokens = torch.empty(rows, codebooks, dtype=torch.int64, device=logits.device)
        _step_tail_kernel[(rows, codebooks)](
            logits,
            sampler.temperature,
            sampler.top_k,
            sampler.top_p,
            sampler.ras_window,
            sampler.ras_win_max_num_repeat,
            sampler.seed,
            tokens,
            self._arrivals,
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
            CODES=codes,
            WINDOW=state.window.shape[1],
            BLOCK=power_of_2(codes),
            PDL=self._pdl,
            num_warps=4,
            **launch_options(pdl=self._pdl),
        )
