"""Attention of one new position per row over the KV cache, in torch: grouped queries, ragged lengths."""

from __future__ import annotations

from functools import cache
from math import inf

import torch
import torch.nn.functional as F


@cache
def _mask_constants(
    max_kv_length: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    zero, minus_infinity = torch.zeros((), dtype=dtype, device=device), torch.full((), -inf, dtype=dtype, device=device)
    return torch.arange(max_kv_length, device=device), zero, minus_infinity


def attention_mask(lengths: torch.Tensor, max_kv_length: int, kv_heads: int, dtype: torch.dtype) -> torch.Tensor:
    """The mask that `decode_attention` adds to the scores; all layers of a decode step share it.

    lengths: int64 [B].  Returns [B, Hkv, 1, max_kv_length], contiguous: 0 at positions below the row's length, else
    -inf.
    """
    places, zero, minus_infinity = _mask_constants(max_kv_length, dtype, lengths.device)
    mask = torch.where(places < lengths.unsqueeze(1), zero, minus_infinity)
    return mask[:, None, None].expand(-1, kv_heads, -1, -1).contiguous()


def decode_attention(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention of row b's query over the positions of slot b that the mask lets it see.

    q: [B, Hq, D].  k_cache, v_cache: [S, Hkv, C, D], slots and heads contiguous.
    mask: [B, Hkv, 1, N] from `attention_mask`, N <= C.  Returns [B, Hq D].
    """
    (rows, heads, size), (_, kv_heads, context, _), length = q.shape, k_cache.shape, mask.shape[-1]
    if q.dtype != torch.float32:
        # Queries of a group as positions of one head: no enable_gqa, which would copy the cache.
        sizes, strides = (rows, kv_heads, length, size), k_cache.stride()
        k, v = k_cache.as_strided(sizes, strides), v_cache.as_strided(sizes, strides)
        grouped = q.view(rows, kv_heads, heads // kv_heads, size)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(rows, heads * size)
    # In fp32 plain batched products use two threads better. as_strided: one call where slices and a reshape take four.
    pairs, step = rows * kv_heads, context * size
    scores = torch.baddbmm(
        mask.view(pairs, 1, length),
        q.reshape(pairs, heads // kv_heads, size),
        k_cache.as_strided((pairs, size, length), (step, 1, size)),
        alpha=size**-0.5,
    )
    v = v_cache.as_strided((pairs, length, size), (step, size, 1))
    return torch.bmm(torch.softmax(scores, -1), v).view(rows, heads * size)
