"""Counter-based noise: the draw of (seed, step, codebook, token) is a pure function, whatever else is in the batch.

SplitMix64's output function over a counter (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
2014), in wrapping 64-bit arithmetic, which torch's int64 is.
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
    """SplitMix64's finalizer, elementwise on int64; `& keep` makes torch's arithmetic shift a logical one."""
    z = (z ^ ((z >> 30) & _KEEP_34)) * _MULTIPLIER_1
    z = (z ^ ((z >> 27) & _KEEP_37)) * _MULTIPLIER_2
    return z ^ ((z >> 31) & _KEEP_33)


def gumbel(seed: torch.Tensor, step: torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise; argmax(log p + noise) is one draw from p (the exponential race).

    seed, step: int64 [B].  counters: int64 [N], `(1 + index) * GAMMA` of each draw of a step (see `draw_counters`).
    Returns float32 [B, N].
    """
    key = mix64(mix64(seed + GAMMA) + step * GAMMA)
    z = key[:, None] + counters
    # mix64 in place: the one large tensor of a step.
    z.bitwise_xor_((z >> 30).bitwise_and_(_KEEP_34)).mul_(_MULTIPLIER_1)
    z.bitwise_xor_((z >> 27).bitwise_and_(_KEEP_37)).mul_(_MULTIPLIER_2)
    # The last xor-shift leaves bits 33 and above as they are, and the top 23 are all that is used.
    uniform = (z >> 41).bitwise_and_(_KEEP_23).to(torch.float32).add_(0.5).mul_(2.0**-23)
    return uniform.log_().neg_().log_().neg_()


def draw_counters(count: int, device: torch.device) -> torch.Tensor:
    """Counters of `count` draws, int64 [count]."""
    return torch.arange(1, count + 1, device=device, dtype=torch.int64) * GAMMA
