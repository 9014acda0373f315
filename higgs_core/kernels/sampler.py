"""The audio sampler in one kernel: temperature, top-k, top-p, one draw and RAS; one program per row and codebook.

The torch function is `higgs_core.sampling.sampler.Sampler`. Noise and rules are the same, and so are the tokens, except
where a sum of probabilities equals top_p to the last bit. Where torch sorts, the kernel finds the lowest score that is
kept by bisection, over fp32 numbers mapped to integers of the same order.
"""

from __future__ import annotations

import torch

from higgs_core.kernels.optional_triton import jit, jit_for_any_alignment, power_of_2, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous
from higgs_core.sampling.sampler import SamplerRows


@jit
def _mix64(z: tl.tensor) -> tl.tensor:
    """SplitMix64's finalizer on uint64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)


@jit
def _gumbel(key: tl.tensor, counter: tl.tensor) -> tl.tensor:
    """Standard Gumbel noise of the draws `counter` (from 1) of a step; `key` is a hash of its seed and number."""
    bits = _mix64(key + counter.to(tl.uint64) * 0x9E3779B97F4A7C15) >> 41
    uniform = (bits.to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2 ** -23
    return -tl.log(-tl.log(uniform))


@jit
def _ordered(score: tl.tensor) -> tl.tensor:
    """fp32 `score` as int32 of the same order."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # -0.0 becomes 0.0, its equal
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@jit
def draw(
    row: tl.tensor,
    codebook: tl.tensor,
    logits: tl.tensor,
    window: tl.tensor,
    temperatures: tl.tensor,
    top_ks: tl.tensor,
    top_ps: tl.tensor,
    ras_windows: tl.tensor,
    ras_max_num_repeats: tl.tensor,
    seeds: tl.tensor,
    steps: tl.tensor,
    window_stride: tl.tensor,
    CODEBOOKS: tl.constexpr,
    CODES: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The token of a row (int64) and codebook, int64. Of logits in any dtype: they are converted as torch would."""
    code = tl.arange(0, BLOCK)
    real = code < CODES
    raw = tl.load(logits + (row * CODEBOOKS + codebook) * CODES + code, mask=real, other=float("-inf")).to(tl.float32)
    temperature = tl.load(temperatures + row)
    gamma = 0x9E3779B97F4A7C15
    key = _mix64(tl.load(seeds + row).to(tl.uint64) + gamma)
    key = _mix64(key + tl.load(steps + row).to(tl.uint64) * gamma)

    choice = raw
    if temperature > 0:
        scores = tl.div_rn(raw, tl.full([BLOCK], 1.0, tl.float32) * temperature)
        order = _ordered(scores)
        top = tl.max(scores, axis=0)
        highest = tl.max(order, axis=0)
        lowest = tl.min(tl.where(real, order, highest), axis=0)

        # Top-k: the largest threshold that at least k scores reach.
        top_k = tl.load(top_ks + row)
        kept = lowest
        if top_k < CODES:
            low, high = lowest.to(tl.int64), highest.to(tl.int64)
            while low < high:
                middle = low + (high - low + 1) // 2
                reached = tl.sum((order >= middle).to(tl.int32), axis=0)
                if reached >= top_k:
                    low = middle
                if reached <= top_k:  # exactly k ends the search
                    high = tl.where(reached == top_k, middle, middle - 1)
            kept = low.to(tl.int32)

        # Top-p: the smallest threshold with less than p of the probability above it.
        top_p = tl.load(top_ps + row)
        if top_p < 1.0:
            mass = tl.where(real & (order >= kept), tl.exp(scores - top), 0.0)
            enough = top_p * tl.sum(mass, axis=0)
            low, high = kept.to(tl.int64), highest.to(tl.int64)
            while low < high:
                middle = low + (high - low) // 2
                if tl.sum(tl.where(order > middle, mass, 0.0), axis=0) < enough:
                    high = middle
                else:
                    low = middle + 1
            kept = low.to(tl.int32)

        counter = codebook * CODES + code + 1
        choice = tl.where(real & (order >= kept), scores + _gumbel(key, counter), float("-inf"))
    token = tl.argmax(choice, axis=0)

    # RAS: draw again from the raw logits if the token is too frequent in the recent columns.
    ras_window = tl.load(ras_windows + row)
    age = tl.arange(0, WINDOW)
    recent = tl.load(window + row * window_stride + (WINDOW - 1 - age) * CODEBOOKS + codebook)
    repeats = tl.sum(((recent == token) & (age < ras_window)).to(tl.int32), axis=0)
    if repeats >= tl.load(ras_max_num_repeats + row):
        counter = (CODEBOOKS + codebook) * CODES + code + 1
        token = tl.argmax(tl.where(real, raw + _gumbel(key, counter), float("-inf")), axis=0)
    # With NaN logits argmax may exceed the vocabulary; the next step uses the token as an index.
    return tl.minimum(token, CODES - 1).to(tl.int64)


# The first column of a segment is sampled for one row alone, whose elements may lie at any address.
@jit_for_any_alignment(
    "window", "temperatures", "top_ks", "top_ps", "ras_windows", "ras_max_num_repeats", "seeds", "steps"
)
def _sampler_kernel(
    logits: tl.tensor,
    window: tl.tensor,
    temperatures: tl.tensor,
    top_ks: tl.tensor,
    top_ps: tl.tensor,
    ras_windows: tl.tensor,
    ras_max_num_repeats: tl.tensor,
    seeds: tl.tensor,
    steps: tl.tensor,
    tokens: tl.tensor,
    window_stride: tl.tensor,
    CODEBOOKS: tl.constexpr,
    CODES: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per row and codebook."""
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
        steps,
        window_stride,
        CODEBOOKS,
        CODES,
        WINDOW,
        BLOCK,
    )
    tl.store(tokens + row * CODEBOOKS + codebook, token)


class TritonSampler:
    """As `higgs_core.sampling.sampler.Sampler`, whose signature it has."""

    def __init__(self, num_codebooks: int, codebook_size: int, device: torch.device, *, pdl: bool = False) -> None:
        """pdl: launch as a programmatic dependent of the kernel before."""
        self._codebooks = num_codebooks
        self._codes = codebook_size
        self._pdl = pdl

    def __call__(
        self, logits: torch.Tensor, window: torch.Tensor, rows: SamplerRows, step: torch.Tensor, max_top_k: int
    ) -> torch.Tensor:
        """logits: [B, Q, V], contiguous.  window: int64 [B, W, Q], oldest first, W a power of two.

        rows, step: of B rows.  max_top_k is not needed here.  Returns int64 [B, Q].
        """
        count, columns = logits.shape[0], window.shape[1]
        tokens = torch.empty(count, self._codebooks, dtype=torch.int64, device=logits.device)
        _sampler_kernel[(count, self._codebooks)](
            logits,
            window,
            rows.temperature,
            rows.top_k,
            rows.top_p,
            rows.ras_window,
            rows.ras_win_max_num_repeat,
            rows.seed,
            step,
            tokens,
            window.stride(0),
            CODEBOOKS=self._codebooks,
            CODES=self._codes,
            WINDOW=columns,
            BLOCK=power_of_2(self._codes),
            PDL=self._pdl,
            num_warps=4,
            **launch_options(pdl=self._pdl),
        )
        return tokens
