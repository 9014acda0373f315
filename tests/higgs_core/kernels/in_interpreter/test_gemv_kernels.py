"""Linear layers of one or two rows in Triton's interpreter: in several launches, and the MLP in one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from higgs_core.kernels.linear import fused_mlp, gemv, torch_linear
from higgs_core.kernels.linear.fused_mlp import FusedMlpConfig
from higgs_core.kernels.linear.gemv import GemvConfig
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.rms_norm import rms_norm
from tests.helpers.kernel_shapes import TOLERANCE, assert_close, random

EPS = 1e-5
SMALL = GemvConfig(tile=4, tiles=2, block=64, warps=1)
ROWS_AND_DTYPES = ((1, torch.float32), (2, torch.bfloat16), (2, torch.float32))
KINDS = (None, torch.int8, torch.float8_e4m3fn)


def weight(out_features: int, in_features: int, dtype: torch.dtype, values: torch.dtype | None) -> Weight:
    """values: the dtype of a quantised weight, whose scales then differ a thousandfold."""
    numbers = random(out_features, in_features).mul(in_features**-0.5)
    if values is None:
        return numbers.to(dtype)
    scales = torch.logspace(-3, 0, out_features)[torch.randperm(out_features)].div(16)
    return QuantizedWeight(numbers.mul(in_features**0.5 * 16).to(values), scales)


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
@pytest.mark.parametrize("config", [gemv.CONFIGS[3], SMALL])
def test_norm_linear_of_widths_that_no_block_divides(
    rows: int, dtype: torch.dtype, config: GemvConfig, values: torch.dtype | None
) -> None:
    x, norm, out = random(rows, 1100, dtype=dtype), random(1100, dtype=dtype), weight(11, 1100, dtype, values)
    got = gemv.norm_linear_triton(x, norm, EPS, out, config)
    assert got.dtype == dtype
    assert_features_close(got, exact(rms_norm(x, norm, EPS), out))


def test_norm_linear_of_values_as_small_as_eps() -> None:
    x, norm, out = random(2, 48).mul(3e-3), random(48), random(5, 48)
    assert_close(gemv.norm_linear_triton(x, norm, EPS, out, SMALL), torch_linear.norm_linear(x, norm, EPS, out))


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
@pytest.mark.parametrize("config", [gemv.CONFIGS[3], SMALL])
def test_linear_add_overwrites_the_residual(
    rows: int, dtype: torch.dtype, config: GemvConfig, values: torch.dtype | None
) -> None:
    x, out = random(rows, 1100, dtype=dtype), weight(11, 1100, dtype, values)
    residual = torch.zeros(rows, 11, dtype=dtype)
    assert gemv.linear_add_triton(x, out, residual, config) is residual
    assert_features_close(residual, exact(x, out))
    residual = random(rows, 11, dtype=dtype)
    expected = torch_linear.linear_add(x, out, residual.clone())
    assert_close(gemv.linear_add_triton(x, out, residual, config), expected)


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_norm_mlp_add_in_two_launches(rows: int, dtype: torch.dtype, values: torch.dtype | None) -> None:
    residual, norm = random(rows, 40, dtype=dtype), random(40, dtype=dtype)
    gate_up, down = weight(2 * 91, 40, dtype, values), weight(40, 91, dtype, values)
    expected = torch_linear.norm_mlp_add(residual.clone(), norm, EPS, gate_up, down)
    configs = (SMALL, GemvConfig(tile=4, tiles=3, block=64, warps=2))
    assert gemv.norm_mlp_add_triton(residual, norm, EPS, gate_up, down, configs) is residual
    assert_close(residual, expected, tolerance=_tolerance(dtype, values))


def _tolerance(dtype: torch.dtype, values: torch.dtype | None) -> float:
    """torch rounds a product of quantised values once more, before it is scaled."""
    return TOLERANCE[dtype] if values is None else 2 * TOLERANCE[dtype]


SMALL_MLP = FusedMlpConfig(1, 1, gate_tile=16, gate_block=32, down_tile=16, down_block=64, max_rows=(2, 2, 2))


@pytest.mark.parametrize("values", KINDS)
@pytest.mark.parametrize(("rows", "dtype"), ROWS_AND_DTYPES)
def test_norm_mlp_add_in_one_launch_equals_that_in_two(
    rows: int, dtype: torch.dtype, values: torch.dtype | None
) -> None:
    residual, norm = random(rows, 40, dtype=dtype), random(40, dtype=dtype)
    gate_up, down = weight(2 * 91, 40, dtype, values), weight(40, 91, dtype, values)
    configs = tuple(GemvConfig(tile, 1, block, 1) for tile, block in ((16, 32), (16, 64)))
    expected = gemv.norm_mlp_add_triton(residual.clone(), norm, EPS, gate_up, down, configs)
    for _ in range(2):  # the counter of the barrier is ready for the next launch
        got = residual.clone()
        assert fused_mlp.norm_mlp_add_triton(got, norm, EPS, gate_up, down, SMALL_MLP) is got
        assert torch.equal(got, expected)


def test_a_launch_whose_programs_wait_in_vain_ends_with_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs one program after another, so all but the last one wait in vain."""
    monkeypatch.setattr(fused_mlp, "MAX_POLLS", 3)
    residual, norm, gate_up, down = random(1, 24), random(24), random(80, 24), random(24, 40)
    config = dataclasses.replace(SMALL_MLP, per_processor=3, down_tile=8)
    for _ in range(2):
        got = fused_mlp.norm_mlp_add_triton(residual.clone(), norm, EPS, gate_up, down, config)
        assert got.isnan().all()
    # All have been counted, so that the next launch is right again.
    expected = torch_linear.norm_mlp_add(residual.clone(), norm, EPS, gate_up, down)
    assert_close(fused_mlp.norm_mlp_add_triton(residual, norm, EPS, gate_up, down, SMALL_MLP), expected)


def exact(x: torch.Tensor, weight: Weight) -> tuple[torch.Tensor, torch.Tensor]:
    """The product in fp32 with no rounding of a dequantised weight, and the sum of what it adds up, without signs."""
    dense = weight.dequantized(torch.float32) if isinstance(weight, QuantizedWeight) else weight.float()
    return x.float() @ dense.T, x.float().abs() @ dense.abs().T


def assert_features_close(got: torch.Tensor, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Equal to one rounding of each number, as features may differ a thousandfold, and to the order of the sum."""
    product, size = expected
    rounding = {torch.float32: 1e-6, torch.bfloat16: 2**-8}[got.dtype]
    assert ((got.float() - product).abs() <= rounding * product.abs() + 1e-6 * size).all()
