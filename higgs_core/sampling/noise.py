"""Counter-based noise: a draw depends on (seed, step, codebook, token) only, not on what else is in the batch.

SplitMix64's output function over a counter. Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
Generators", 2014. Its arithmetic is modulo 2**64, as that of torch's int64 is.
"""

from __future__ import annotations

import torch


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


GAMMA = _signed(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _signed(0x94D049BB133111EB)
_KEEP_34 = (1 << 34) - 1
_KEEP_37 = (1 << 37) - 1
_KEEP_33 = (1 << 33) - 1
_KEEP_23 = (1 << 23) - 1


def mix64(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer, elementwise on int64. The masks make torch's arithmetic shifts logical ones."""
    z = (z ^ ((z >> 30) & _KEEP_34)) * _MULTIPLIER_1
    z = (z ^ ((z >> 27) & _KEEP_37)) * _MULTIPLIER_2
    return z ^ ((z >> 31) & _KEEP_33)


def gumbel(seed: torch.Tensor, step: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise; argmax(log p + noise) is one draw from p (the Gumbel-max trick).

    seed, step: int64 [B].  counters: int64 [N], or [B, N] if they differ between rows: `(1 + index) * GAMMA` of each
    draw of a step (see `draw_counters`).
    Returns float32 [B, N].
    """
    key = mix64(mix64(seed + GAMMA) + step * GAMMA)
    z = key[:, None] + counters
    # As mix64, but in place: this is the only large tensor of a step.
    z.bitwise_xor_((z >> 30).bitwise_and_(_KEEP_34)).mul_(_MULTIPLIER_1)
    z.bitwise_xor_((z >> 27).bitwise_and_(_KEEP_37)).mul_(_MULTIPLIER_2)
    # Only the top 23 bits are used, which the last xor-shift would leave as they are.
    uniform = (z >> 41).bitwise_and_(_KEEP_23).to(torch.float32).add_(0.5).mul_(2.0**-23)
    return uniform.log_().neg_().log_().neg_()


def draw_counters(count: int, device: torch.device) -> torch.Tensor:
    """Counters of `count` draws, int64 [count]."""
    return torch.arange(1, count + 1, device=device, dtype=torch.int64) * GAMMA
