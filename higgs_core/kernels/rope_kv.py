"""Rotary position embedding of a fused q-k-v row, and the write of its key and value into the KV cache."""

from __future__ import annotations

from functools import cache

import torch

from higgs_core.kernels.lang import cdiv, jit, tl

_HEADS_PER_PROGRAM = 4


@cache
def _constants(rows: int, size: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of a batch, and the sign with which rotate_half takes each element of the swapped halves."""
    signs = torch.ones(size, dtype=dtype, device=device)
    signs[: size // 2] = -1
    return torch.arange(rows, device=device), signs


def rope_kv_write(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Rotate queries and keys; write keys and values of row b to slot b at positions[b].

    qkv: [B, (Hq + 2 Hkv) D], contiguous.  cos, sin: [B, D], both halves alike, in the model's dtype.
    k_cache, v_cache: [S, Hkv, C, D], S >= B.  positions: int64 [B].  Returns the rotated queries [B, Hq, D].
    """
    (rows, size), kv_heads, width = cos.shape, k_cache.shape[1], qkv.shape[1]
    turning = width // size - kv_heads  # queries and keys lie side by side and turn together
    slots, signs = _constants(rows, size, cos.dtype, cos.device)
    # as_strided takes one call where a view and a slice take two.
    straight = qkv.as_strided((rows, turning, size), (width, size, 1))
    value = qkv.as_strided((rows, kv_heads, size), (width, size, 1), qkv.storage_offset() + turning * size)
    turned = straight.roll(size // 2, -1).mul_(torch.mul(sin, signs).unsqueeze(1))
    turned.addcmul_(straight, cos.unsqueeze(1))
    k_cache[slots, :, positions] = turned[:, turning - kv_heads :]
    v_cache[slots, :, positions] = value
    return turned[:, : turning - kv_heads]


@jit
def rotated(heads: tl.tensor, cos: tl.tensor, sin: tl.tensor, mask: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    """fp32 [N, SIZE]: the heads at the addresses `heads` [N, 1] where `mask` [N, 1], rotated by cos and sin [SIZE]."""
    half: tl.constexpr = SIZE // 2
    index = tl.arange(0, SIZE)[None, :]
    partner = tl.where(index < half, index + half, index - half)
    straight = tl.load(heads + index, mask=mask, other=0.0).to(tl.float32)
    crossed = tl.load(heads + partner, mask=mask, other=0.0).to(tl.float32)
    crossed = tl.where(index < half, -crossed, crossed)
    return straight * tl.load(cos + index).to(tl.float32) + crossed * tl.load(sin + index).to(tl.float32)


@jit
def _rope_kv_kernel(
    qkv: tl.tensor,
    cos: tl.tensor,
    sin: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    positions: tl.tensor,
    query: tl.tensor,
    slot_stride: tl.tensor,
    head_stride: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One program a row and TILE heads, whichever of q, k and v they are."""
    turning: tl.constexpr = HEADS + KV_HEADS
    total: tl.constexpr = HEADS + 2 * KV_HEADS
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None]
    index = tl.arange(0, SIZE)[None, :]
    source = qkv + (row * total + head) * SIZE
    turned = rotated(source, cos + row * SIZE, sin + row * SIZE, head < turning, SIZE).to(query.dtype.element_ty)
    tl.store(query + (row * HEADS + head) * SIZE + index, turned, mask=head < HEADS)
    place = row * slot_stride + tl.load(positions + row) * SIZE + index
    is_key = (head >= HEADS) & (head < turning)
    tl.store(k_cache + place + (head - HEADS) * head_stride, turned, mask=is_key)
    is_value = (head >= turning) & (head < total)
    value = tl.load(source + index, mask=is_value)
    tl.store(v_cache + place + (head - turning) * head_stride, value, mask=is_value)


def rope_kv_write_triton(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """As `rope_kv_write`; D must be a power of two."""
    (rows, size), kv_heads = cos.shape, k_cache.shape[1]
    heads = qkv.shape[1] // size - 2 * kv_heads
    query = qkv.new_empty(rows, heads, size)
    _rope_kv_kernel[(rows, cdiv(heads + 2 * kv_heads, _HEADS_PER_PROGRAM))](
        qkv,
        cos,
        sin,
        k_cache,
        v_cache,
        positions,
        query,
        k_cache.stride(0),
        k_cache.stride(1),
        HEADS=heads,
        KV_HEADS=kv_heads,
        SIZE=size,
        TILE=_HEADS_PER_PROGRAM,
        num_warps=2,
    )
    return query
