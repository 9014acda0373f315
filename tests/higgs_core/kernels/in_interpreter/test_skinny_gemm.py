"""Linear layers of 3 to 32 rows in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.linear import skinny_gemm
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.linear.skinny_gemm import (
    CONFIGS,
    SkinnyConfig,
    linear_add_triton,
    norm_linear_triton,
    norm_mlp_add_triton,
)
from higgs_core.kernels.linear.torch_linear import linear_add, norm_linear, norm_mlp_add
from tests.helpers.kernel_shapes import assert_close, random

FP32, BF16 = torch.float32, torch.bfloat16
INT8, FP8 = torch.int8, torch.float8_e4m3fn
EPS = 1e-5
ODD_IN, ODD_OUT = 200, 70  # no block and no tile divides them
SMALL = SkinnyConfig(16, 3, 64, 3, 1)  # 16 to 64 numbers at once
Pair = tuple[SkinnyConfig, SkinnyConfig]
CASES = [
    (3, FP32, FP32),
    (3, BF16, INT8),
    (5, BF16, BF16),
    (8, FP32, INT8),
    (8, BF16, FP8),
    (16, BF16, BF16),
    (17, FP32, FP8),
    (17, BF16, INT8),
    (32, BF16, BF16),
    (32, BF16, FP8),
]
"""Rows, the model's dtype and the weight's: the interpreter is slow, so not every combination."""


def weight_of(outer: int, inner: int, dtype: torch.dtype, weight_dtype: torch.dtype) -> Weight:
    """Quantised, it has scales from 2 ** -5 to 2 ** 2 of the usual one."""
    weight = random(outer, inner).mul(inner**-0.5)
    if weight_dtype not in (INT8, FP8):
        return weight.to(dtype)
    largest = 127.0 if weight_dtype == INT8 else 448.0
    scales = weight.abs().amax(1) / largest
    values = (weight / scales[:, None]).clamp(-largest, largest)
    values = values.round() if weight_dtype == INT8 else values
    return QuantizedWeight(values.to(weight_dtype), scales * 2.0 ** torch.arange(-5, 3).repeat(outer // 8 + 1)[:outer])


def wide(tensor: Weight) -> torch.Tensor:
    """The same numbers in fp32."""
    return tensor.dequantized(FP32) if isinstance(tensor, QuantizedWeight) else tensor.float()


def assert_as_exact(got: torch.Tensor, library: torch.Tensor, exact: torch.Tensor) -> None:
    """No further from the result in fp32 than torch's own, each feature in units of its largest value."""
    largest = exact.abs().amax(0)
    own, other = (((found.float() - exact) / largest).norm() for found in (got, library))
    assert got.dtype == library.dtype
    assert own < 1.3 * other + 1e-5


@pytest.mark.parametrize(("rows", "dtype", "weight_dtype"), CASES)
def test_norm_linear_of_odd_widths(rows: int, dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    x, norm = random(rows, ODD_IN, dtype=dtype), random(ODD_IN, dtype=dtype)
    weight = weight_of(ODD_OUT, ODD_IN, dtype, weight_dtype)
    got, library = norm_linear_triton(x, norm, EPS, weight, SMALL), norm_linear(x, norm, EPS, weight)
    assert_as_exact(got, library, norm_linear(x.float(), norm.float(), EPS, wide(weight)))


@pytest.mark.parametrize(("rows", "dtype", "weight_dtype"), CASES)
def test_linear_add_of_odd_widths(rows: int, dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    x, weight = random(rows, ODD_IN, dtype=dtype), weight_of(ODD_OUT, ODD_IN, dtype, weight_dtype)
    residual = random(rows, ODD_OUT, dtype=dtype)
    exact = linear_add(x.float(), wide(weight), wide(residual).clone())
    library = linear_add(x, weight, residual.clone())
    assert linear_add_triton(x, weight, residual, SMALL) is residual
    assert_as_exact(residual, library, exact)


def check_mlp(rows: int, dtype: torch.dtype, weight_dtype: torch.dtype, sizes: tuple[int, int], configs: Pair) -> None:
    hidden, inner = sizes
    residual, norm = random(rows, hidden, dtype=dtype), random(hidden, dtype=dtype)
    gate_up = weight_of(2 * inner, hidden, dtype, weight_dtype)
    down = weight_of(hidden, inner, dtype, weight_dtype)
    exact = norm_mlp_add(wide(residual).clone(), norm.float(), EPS, wide(gate_up), wide(down))
    library = norm_mlp_add(residual.clone(), norm, EPS, gate_up, down)
    assert norm_mlp_add_triton(residual, norm, EPS, gate_up, down, configs) is residual
    assert_as_exact(residual, library, exact)


@pytest.mark.parametrize(("rows", "dtype", "weight_dtype"), CASES)
def test_norm_mlp_add_of_odd_widths(rows: int, dtype: torch.dtype, weight_dtype: torch.dtype) -> None:
    check_mlp(rows, dtype, weight_dtype, (ODD_OUT, ODD_IN), (SMALL, SkinnyConfig(32, 2, 64, 3, 1)))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_at_widths_that_it_divides(config: SkinnyConfig) -> None:
    hidden = 2 * config.splits * config.block
    check_mlp(4, BF16, BF16, (hidden // 2, config.tile), (config, config))
    check_mlp(4, BF16, INT8, (hidden, 2 * config.tile), (config, config))


@pytest.mark.parametrize("splits", [1, 5, 64])
def test_a_second_launch_gives_the_same_and_counters_are_zero_again(splits: int) -> None:
    config = SkinnyConfig(16, splits, 16, 3, 1)
    x, weight, residual = random(6, ODD_IN), weight_of(ODD_OUT, ODD_IN, FP32, INT8), random(6, ODD_OUT)
    first = linear_add_triton(x, weight, residual.clone(), config)
    assert not skinny_gemm._arrivals(x.device).any()
    assert torch.equal(linear_add_triton(x, weight, residual.clone(), config), first)
    assert_close(first, linear_add(x, weight, residual.clone()))


def test_the_product_is_rounded_before_the_residual_is_added() -> None:
    x, weight = torch.ones(3, 64, dtype=BF16), torch.full((16, 64), 1 / 64, dtype=BF16)
    weight[:, 0] += 2**-10  # the sum 1 + 2 ** -10 is 1 in bf16
    residual = torch.full((3, 16), -1.0, dtype=BF16)
    assert not linear_add_triton(x, weight, residual, SMALL).any()


def test_rows_that_are_not_there_are_neither_read_nor_written() -> None:
    memory, weight = torch.full((8, ODD_IN), torch.nan), weight_of(ODD_OUT, ODD_IN, FP32, FP32)
    memory[:5] = random(5, ODD_IN)
    residual = torch.full((8, ODD_OUT), 7.0)
    expected = linear_add(memory[:5], weight, residual[:5].clone())
    assert_close(linear_add_triton(memory[:5], weight, residual[:5], SMALL), expected)
    assert (residual[5:] == 7).all()
