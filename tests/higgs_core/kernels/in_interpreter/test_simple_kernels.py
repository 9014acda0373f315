"""Embedding, norms and SwiGLU in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels import embed_columns, rms_norm, swiglu
from tests.helpers.kernel_shapes import DTYPES, ROWS_AND_DTYPES, assert_close, random

EPS = 1e-5


@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_embed_columns_sums_over_the_codebooks(rows: int, dtype: torch.dtype) -> None:
    columns, table = torch.randint(0, 11, (rows, 3)), random(3 * 11, 600, dtype=dtype)
    expected = table.view(3, 11, 600)[torch.arange(3), columns].sum(1)
    assert_close(embed_columns.embed_columns(columns, table), expected)
    assert_close(embed_columns.embed_columns_triton(columns, table), expected)


@pytest.mark.parametrize("width", [64, 100])
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_rms_norm(rows: int, width: int, dtype: torch.dtype) -> None:
    x, weight = random(rows, width, dtype=dtype), random(width, dtype=dtype)
    assert_close(rms_norm.rms_norm_triton(x, weight, EPS), rms_norm.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_of_values_as_small_as_eps(dtype: torch.dtype) -> None:
    x, weight = random(2, 48, dtype=dtype).mul(3e-3), random(48, dtype=dtype)
    assert_close(rms_norm.rms_norm_triton(x, weight, EPS), rms_norm.rms_norm(x, weight, EPS))


@pytest.mark.parametrize("width", [512, 700])
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_swiglu(rows: int, width: int, dtype: torch.dtype) -> None:
    gate_up = random(rows, 2 * width, dtype=dtype)
    assert_close(swiglu.swiglu_triton(gate_up), swiglu.swiglu(gate_up))
