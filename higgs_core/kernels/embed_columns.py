"""The input embedding of an audio column: the sum of its codebooks' embeddings."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F

from higgs_core.kernels.optional_triton import cdiv, jit, tl
from higgs_core.kernels.pdl import launch_options, let_next_start, wait_for_previous

_BLOCK = 512


@cache
def _offsets(codebooks: int, codes: int, device: torch.device) -> torch.Tensor:
    return torch.arange(codebooks, device=device) * codes


def embed_columns(columns: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """columns: int64 [B, Q].  table: [Q V, H], one codebook after another.  Returns [B, H]."""
    codebooks = columns.shape[1]
    return F.embedding(columns + _offsets(codebooks, table.shape[0] // codebooks, table.device), table).sum(-2)


@jit
def _embed_kernel(
    columns: tl.tensor,
    table: tl.tensor,
    out: tl.tensor,
    codes: tl.tensor,
    width: tl.tensor,
    CODEBOOKS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    """One program per row and block of the hidden size."""
    wait_for_previous(PDL)
    let_next_start(PDL)
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < width
    total = tl.zeros([BLOCK], tl.float32)
    for codebook in tl.static_range(CODEBOOKS):
        code = tl.load(columns + row * CODEBOOKS + codebook)
        line = table + (codebook * codes + code) * width
        total += tl.load(line + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + place, total.to(out.dtype.element_ty), mask=inside)


def embed_columns_triton(columns: torch.Tensor, table: torch.Tensor, *, pdl: bool = False) -> torch.Tensor:
    """As `embed_columns`. pdl: launch as a programmatic dependent of the kernel before."""
    (rows, codebooks), width = columns.shape, table.shape[1]
    out = table.new_empty(rows, width)
    _embed_kernel[(rows, cdiv(width, _BLOCK))](
        columns,
        table,
        out,
        table.shape[0] // codebooks,
        width,
        CODEBOOKS=codebooks,
        BLOCK=_BLOCK,
        PDL=pdl,
        num_warps=2,
        **launch_options(pdl=pdl),
    )
    return out
