"""Attention of one new position a row over the KV cache: grouped queries, ragged lengths, cost follows the length.

On a device the positions of a row are split over programs (Dao et al., "Flash-Decoding", 2023), so that one row fills
the card; a second kernel merges what the splits found.
"""

from __future__ import annotations

from functools import cache
from math import inf

import torch
import torch.nn.functional as F

from higgs_core.kernels.lang import Pointer, Scalar, cdiv, jit, power_of_2, tl

LOG2E = 1.4426950408889634
MAX_SPLITS = 64


@cache
def _mask_constants(
    used: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    zero, minus_infinity = torch.zeros((), dtype=dtype, device=device), torch.full((), -inf, dtype=dtype, device=device)
    return torch.arange(used, device=device), zero, minus_infinity


def attention_mask(lengths: torch.Tensor, used: int, kv_heads: int, dtype: torch.dtype) -> torch.Tensor:
    """What `decode_attention` adds to the scores, worth computing once a step instead of once a layer.

    lengths: int64 [B].  Returns [B, Hkv, 1, used]: 0 where a row may look, else -inf.
    """
    places, zero, minus_infinity = _mask_constants(used, dtype, lengths.device)
    mask = torch.where(places < lengths.unsqueeze(1), zero, minus_infinity)
    return mask[:, None, None].expand(-1, kv_heads, -1, -1).contiguous()


def decode_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    used: int,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of row b's query over positions 0..lengths[b] of slot b.

    q: [B, Hq, D].  k_cache, v_cache: [S, Hkv, C, D], slots and heads contiguous.  lengths: int64 [B], >= 1.
    used: lengths <= used <= C.  mask: `attention_mask` of the same, if at hand.  Returns [B, Hq D].
    """
    (rows, heads, size), (_, kv_heads, context, _) = q.shape, k_cache.shape
    if mask is None:
        mask = attention_mask(lengths, used, kv_heads, q.dtype)
    if q.dtype != torch.float32:
        # Queries of a group as positions of one head: no enable_gqa, which would copy the cache.
        sizes, strides = (rows, kv_heads, used, size), k_cache.stride()
        k, v = k_cache.as_strided(sizes, strides), v_cache.as_strided(sizes, strides)
        grouped = q.view(rows, kv_heads, heads // kv_heads, size)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(rows, heads * size)
    # In fp32 plain batched products use two threads better. as_strided: one call where slices and a reshape take four.
    pairs, step = rows * kv_heads, context * size
    scores = torch.baddbmm(
        mask.view(pairs, 1, used),
        q.reshape(pairs, heads // kv_heads, size),
        k_cache.as_strided((pairs, size, used), (step, 1, size)),
        alpha=size**-0.5,
    )
    v = v_cache.as_strided((pairs, used, size), (step, size, 1))
    return torch.bmm(torch.softmax(scores, -1), v).view(rows, heads * size)
