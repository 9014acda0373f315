"""Rotary position embedding (RoPE) of a fused q-k-v row, and the write of its key and value into the KV cache."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from higgs_core.kernels.optional_triton import jit, tl


class RopeTable(NamedTuple):
    """cos, sin: [C, D] for every position of the cache, both halves equal, in the model's dtype."""

    cos: torch.Tensor
    sin: torch.Tensor


@cache
def _slots(rows: int, device: torch.device) -> torch.Tensor:
    return torch.arange(rows, device=device)


@cache
def _signs(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    signs = torch.ones(size, dtype=dtype, device=device)
    signs[: size // 2] = -1
    return signs


def rotation(cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of `rope_kv_write`; all layers of a decode step share them.

    cos, sin: [B, D], both halves equal.  Returns [B, 1, D] each: of a head, and of the head with its halves swapped,
    with the signs of rotate_half.
    """
    return cos.unsqueeze(1), torch.mul(sin, _signs(sin.shape[-1], sin.dtype, sin.device)).unsqueeze(1)


def rope_kv_write(
    qkv: torch.Tensor,
    factors: tuple[torch.Tensor, torch.Tensor],
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Rotate queries and keys; write keys and values of row b to slot b at positions[b].

    qkv: [B, (Hq + 2 Hkv) D], contiguous.  factors: of `rotation`, in the model's dtype.
    k_cache, v_cache: [S, Hkv, C, D], S >= B.  positions: int64 [B].  Returns the rotated queries [B, Hq, D].
    """
    of_straight, of_swapped = factors
    (rows, _, size), kv_heads, width = of_straight.shape, k_cache.shape[1], qkv.shape[1]
    slots = _slots(rows, qkv.device)
    rotating = width // size - kv_heads  # queries and keys are adjacent and are rotated together
    # as_strided takes one call where a view and a slice take two.
    straight = qkv.as_strided((rows, rotating, size), (width, size, 1))
    value = qkv.as_strided((rows, kv_heads, size), (width, size, 1), qkv.storage_offset() + rotating * size)
    rotated_heads = straight.roll(size // 2, -1).mul_(of_swapped).addcmul_(straight, of_straight)
    k_cache[slots, :, positions] = rotated_heads[:, rotating - kv_heads :]
    v_cache[slots, :, positions] = value
    return rotated_heads[:, : rotating - kv_heads]


@jit
def rotated(heads: tl.tensor, cos: tl.tensor, sin: tl.tensor, mask: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    """fp32 [N, SIZE]: the heads at the addresses `heads` [N, 1] where `mask` [N, 1], rotated by cos and sin [SIZE]."""
    half: tl.constexpr = SIZE // 2
    index = tl.arange(0, SIZE)[None, :]
    partner = tl.where(index < half, index + half, index - half)
    straight = tl.load(heads + index, mask=mask, other=0.0).to(tl.float32)
    swapped = tl.load(heads + partner, mask=mask, other=0.0).to(tl.float32)
    swapped = tl.where(index < half, -swapped, swapped)
    return straight * tl.load(cos + index).to(tl.float32) + swapped * tl.load(sin + index).to(tl.float32)
