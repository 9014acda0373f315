"""Snake, the activation of the codec's convolutions: x + sin(alpha x)^2 / alpha, with an alpha for each channel.

Source: Liu Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to Fix It",
https://arxiv.org/abs/2006.08195.
"""

from __future__ import annotations

import torch

from higgs_core.kernels.optional_triton import cdiv, jit, jit_for_any_alignment, tl

_BLOCK = 1024


def snake(x: torch.Tensor, alpha: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """x: [B, C, T].  alpha and inverse, which is 1 / alpha: [1, C, 1].  Returns [B, C, T]."""
    # In place from the second step on: on a CPU the time goes into fetching memory, not into the sine.
    return (x * alpha).sin_().square_().mul_(inverse).add_(x)


@jit
def sin_squared(angle: tl.tensor) -> tl.tensor:
    """sin(angle)^2 of fp32 numbers, to 3e-7 of itself up to angles of about 1,000.

    The sine of CUDA's library is as exact, but the part of it that is for huge angles spills registers. The square has
    the period pi, so the angle is brought to -pi/2..pi/2 first, with pi as the sum of three numbers of which the first
    two have so few bits that their multiples are exact. The polynomial was fitted to the sine for the least relative
    error, 2e-11 before rounding.
    """
    periods = tl.floor(angle * 0.3183098861837907 + 0.5)
    rest = angle - periods * 3.140625
    rest = rest - periods * 0.0009675025939941406
    rest = rest - periods * 1.5099580252808664e-07
    square = rest * rest
    series = -2.388832598398949e-08 * square + 2.752535237959819e-06
    series = series * square - 0.00019840867025777698
    series = series * square + 0.008333330973982811
    series = series * square - 0.1666666716337204
    sine = rest + rest * (square * series)
    return sine * sine


@jit_for_any_alignment("length")
def _snake_kernel(
    x: tl.tensor,
    alpha: tl.tensor,
    inverse: tl.tensor,
    out: tl.tensor,
    channels: tl.tensor,
    length: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One program per channel of a row and block of its samples."""
    row = tl.program_id(0)
    channel = row % channels
    sample = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = sample < length
    start = row.to(tl.int64) * length
    value = tl.load(x + start + sample, mask=inside, other=0.0)
    wave = sin_squared(tl.load(alpha + channel) * value)
    tl.store(out + start + sample, value + tl.load(inverse + channel) * wave, mask=inside)


def snake_triton(x: torch.Tensor, alpha: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """As `snake`, in one kernel. fp32 only."""
    batch, channels, length = x.shape
    x = x.contiguous()
    out = torch.empty_like(x)
    _snake_kernel[(batch * channels, cdiv(length, _BLOCK))](
        x, alpha, inverse, out, channels, length, BLOCK=_BLOCK, num_warps=4
    )
    return out
