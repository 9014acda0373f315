"""Reading of weights in every dtype, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.linear.weight_tiles import feature_scales, values_and_scales, weight_tile
from higgs_core.kernels.optional_triton import jit, tl

FEATURES, INNER, BLOCK = 5, 200, 256
FP8 = torch.float8_e4m3fn


@jit
def _read_all(
    weight: tl.tensor,
    scales: tl.tensor,
    numbers: tl.tensor,
    factors: tl.tensor,
    outer: tl.tensor,
    INNER: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """numbers [TILE, BLOCK] and factors [TILE]: what the device functions make of a weight [outer, INNER]."""
    feature, place = tl.arange(0, TILE), tl.arange(0, BLOCK)
    inside = (feature < outer)[:, None] & (place < INNER)[None, :]
    tile = weight_tile(weight + feature[:, None] * INNER + place[None, :], inside, numbers.dtype.element_ty)
    tl.store(numbers + feature[:, None] * BLOCK + place[None, :], tile)
    tl.store(factors + feature, feature_scales(scales, feature, outer))


def read(weight: Weight, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    numbers, factors = torch.full((8, BLOCK), torch.nan, dtype=dtype), torch.full((8,), torch.nan)
    _read_all[(1,)](*values_and_scales(weight), numbers, factors, FEATURES, INNER=INNER, TILE=8, BLOCK=BLOCK)
    assert not numbers[FEATURES:].any()
    assert not numbers[:, INNER:].any()
    return numbers[:FEATURES, :INNER], factors[:FEATURES]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_8_bit_number_is_read_exactly(dtype: torch.dtype) -> None:
    scales = torch.rand(FEATURES)
    every_byte = torch.arange(FEATURES * INNER).to(torch.uint8).view(FEATURES, INNER)
    real = every_byte.view(FP8).float().nan_to_num().to(FP8)
    for values in (every_byte.view(torch.int8), real):
        numbers, factors = read(QuantizedWeight(values, scales), dtype)
        assert torch.equal(numbers, values.to(dtype))
        assert torch.equal(factors, scales)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_weight_in_the_models_dtype_has_scales_of_one(dtype: torch.dtype) -> None:
    weight = torch.randn(FEATURES, INNER).to(dtype)
    numbers, factors = read(weight, dtype)
    assert torch.equal(numbers, weight)
    assert torch.equal(factors, torch.ones(FEATURES))
