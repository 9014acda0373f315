"""Cases for the check of attention at start: few rows to the full context, many rows that are ragged, long or short."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.checks.self_check import Case
from higgs_core.kernels.checks.self_check_inputs import RandomInputs

ROWS_AND_CONTEXTS = ((1, 8192), (2, 4160), (5, 4160), (8, 2112), (32, 2112))
"""The caches of 32 rows of the released model take 290 MB; longer positions are left to fewer rows."""

_LENGTHS = (1, 2, 31, 32, 33, 63, 64, 65, 128, 300, 513, 700, 1024, 1500, 2048, 2049, 3000, 4100)
_EDGE = 32  # places around its multiples are where a kernel's blocks and splits end
_SCORE = 4.0  # of the keys that a query must not miss; the others' lie around 0, so these weigh 50 times as much
_ROPE_BASE = 500_000.0


def rope_attention_cases(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """qkv, k_cache, v_cache, cos, sin, positions, active, max_kv_length.

    A query's score is high at its own position, at the first, at the last one before its own and at the ends of blocks,
    so that a result without one of them is far off.
    """
    inputs = RandomInputs(device, dtype)
    for rows, context in ROWS_AND_CONTEXTS:
        cos, sin = _rope_table(context, config.head_dim, device, dtype)
        # One more slot than rows and a dummy position, as in the engine's cache. Every case fills the same memory.
        caches = torch.empty(2, rows + 1, config.num_kv_heads, context + 1, config.head_dim, device=device, dtype=dtype)
        for lengths, asleep in _lengths(rows, context):
            inputs.fill(caches)
            positions = torch.tensor([length - 1 for length in lengths], device=device)
            active = torch.ones(rows, dtype=torch.bool, device=device)
            if asleep:
                positions[-1].fill_(context)
                active[-1].fill_(False)
            qkv = inputs.normal(rows, config.qkv_size)
            keys = _seek(config, qkv, cos[positions], sin[positions])
            for row, length in enumerate(lengths[: rows - asleep]):
                k_cache = caches[0, row]
                k_cache[:, _sought(length, device)] += keys[row][:, None]
            yield Case((qkv, *caches, cos, sin, positions, active, context))


def _lengths(rows: int, context: int) -> Iterator[tuple[list[int], bool]]:
    """Lengths of all rows, and whether the last one is asleep."""
    known = [length for length in _LENGTHS if length < context]
    if rows == 1:
        for length in (context, *known[:: max(len(known) // 5, 1)]):
            yield [length], False
        return
    spread = [known[place * len(known) // rows] for place in range(rows)]
    yield [context, *spread[1:]], True
    yield [context - min(33 * row, context - 1) for row in range(rows)], False
    yield [min(1 + 7 * row, context) for row in range(rows)], False


def _rope_table(context: int, size: int, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    frequency = torch.pow(_ROPE_BASE, -torch.arange(0, 1, 2 / size, device=device))
    angle = torch.outer(torch.arange(context + 1, device=device), frequency).repeat(1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _seek(config: ModelConfig, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """What to add to a cached key so that a row's queries find it, [B, Hkv, D]; the row's new key becomes such a one.

    cos, sin: [B, D], at the rows' positions.
    """
    heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
    group, parts = heads // kv_heads, qkv.view(qkv.shape[0], -1, size)
    # A group's mean query, scaled so that its product with each of the queries gives the score.
    key = parts[:, :heads].view(-1, kv_heads, group, size).mean(2) * (_SCORE * group * size**-0.5)
    parts[:, heads : heads + kv_heads] = key
    first, second = key.chunk(2, dim=-1)
    return torch.addcmul(key * cos[:, None], torch.cat((-second, first), dim=-1), sin[:, None])


def _sought(length: int, device: torch.device) -> torch.Tensor:
    """Cached positions below a row's own that its queries must find."""
    cached = length - 1
    edges = {place for place in range(cached) if place % _EDGE in (0, _EDGE - 1)}
    return torch.tensor(sorted(edges | {cached - 1} - {-1}), device=device, dtype=torch.int64)
