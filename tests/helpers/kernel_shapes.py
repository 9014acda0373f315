"""A model's shapes without a model, and random inputs for its kernels."""

from __future__ import annotations

import torch
from transformers.models.higgs_audio_v2.configuration_higgs_audio_v2 import HiggsAudioV2Config

from higgs_core.config import ModelConfig

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 8e-3}
DTYPES = (torch.float32, torch.bfloat16)
ROWS = (1, 2, 3, 8)
ROWS_AND_DTYPES = (
    (1, torch.float32),
    (2, torch.bfloat16),
    (3, torch.float32),
    (3, torch.bfloat16),
    (8, torch.bfloat16),
)
"""For the interpreter, which is slow: every batch and both dtypes, not every pair."""


def model_config(**changes: int) -> ModelConfig:
    """Small and odd: 3 queries a group, widths that no block size divides."""
    shapes = {
        "hidden_size": 72,
        "intermediate_size": 200,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_codebooks": 3,
        "codebook_size": 70,
        **changes,
    }
    return ModelConfig(HiggsAudioV2Config(**shapes), audio_paths=(), eos_token_ids=())


def assert_close(got: torch.Tensor, expected: torch.Tensor, *, tolerance: float | None = None) -> None:
    """Equal to a few roundings of the dtype, of the largest value."""
    assert got.dtype == expected.dtype
    limit = tolerance if tolerance is not None else TOLERANCE[expected.dtype]
    scale = max(float(expected.float().abs().max()), 1.0)
    torch.testing.assert_close(got.float(), expected.float(), atol=limit * scale, rtol=0)


def angles(rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [rows, size], both halves alike."""
    angle = torch.rand(rows, size // 2).mul(6).repeat(1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape).to(dtype)
