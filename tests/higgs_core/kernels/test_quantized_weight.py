"""Weights in 8 bits: how far they may be from what they stand for, and the torch function that multiplies by them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from higgs_core.engine_config import AUTO, WEIGHTS
from higgs_core.kernels.linear import torch_linear
from higgs_core.kernels.linear.quantized_weight import (
    FP8,
    INT8,
    VALUE_DTYPES,
    QuantizedWeight,
    dense,
    quantize,
    quantize_into,
    split_rows,
)
from higgs_core.kernels.linear.torch_linear import linear
from tests.helpers.kernel_shapes import DTYPES, assert_close, random

KINDS = tuple(VALUE_DTYPES)


def channels_of_very_different_size(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[12, 300]: rows from 1e-30 to 1e10, one of them with a single large value."""
    weight = random(12, 300) * torch.logspace(-30, 10, 12)[:, None]
    weight[5, 7] = weight[5].abs().max() * 1000
    return weight.to(dtype)


def test_the_kinds_are_those_that_an_engine_takes() -> None:
    assert (AUTO, *VALUE_DTYPES) == WEIGHTS


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_is_at_most_half_a_step_away_in_every_channel(dtype: torch.dtype) -> None:
    weight = channels_of_very_different_size(dtype)
    made = quantize(weight, INT8)
    step = weight.double().abs().amax(1) / 127
    torch.testing.assert_close(made.scales.double(), step, rtol=1e-6, atol=0)
    error = (made.values.double() * made.scales.double()[:, None] - weight.double()).abs()
    assert (error.amax(1) <= step * 0.50001).all()
    assert (made.values.abs().amax(1) == 127).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fp8_keeps_three_bits_of_mantissa_of_every_value(dtype: torch.dtype) -> None:
    weight = channels_of_very_different_size(dtype)
    made = quantize(weight, FP8)
    exact = weight.double()
    error = (made.values.double() * made.scales.double()[:, None] - exact).abs()
    least = made.scales.double()[:, None] * 2.0**-10  # half the step of the smallest values
    assert (error <= (exact.abs() * 2.0**-4).maximum(least) * 1.00001).all()
    assert (made.values.float().abs().amax(1) == 448).all()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_zeros_and_of_almost_nothing_stay_that(kind: str) -> None:
    weight = torch.zeros(3, 8)
    weight[1] = torch.linspace(-1e-44, 1e-44, 8)  # its scale would lose its bits
    weight[2, 0] = 1.0
    back = quantize(weight, kind).dequantized(torch.float32)
    assert (back[:2].abs() <= 1.2e-38).all()
    assert (back[0] == 0).all()
    assert back[2, 0] == pytest.approx(1.0)
    assert (back[2, 1:] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_refused(kind: str, value: float) -> None:
    weight = random(4, 6, dtype=torch.bfloat16)
    weight[2, 5] = value
    with pytest.raises(ValueError, match="values that are not finite"):
        quantize(weight, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_dequantised_is_rounded_once(kind: str, dtype: torch.dtype) -> None:
    made = quantize(random(9, 40), kind)
    exact = made.values.float() * made.scales[:, None]
    assert torch.equal(made.dequantized(dtype), exact.to(dtype))
    assert torch.equal(dense(made, dtype), exact.to(dtype))
    assert torch.equal(dense(exact, dtype), exact.to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_fused_weight_are_its_own_memory(kind: str) -> None:
    fused = QuantizedWeight.empty(7, 5, kind, torch.device("cpu"))
    weight = random(7, 5)
    for part, rows in zip(split_rows(fused, [4, 1, 2]), weight.split([4, 1, 2]), strict=True):
        assert isinstance(part, QuantizedWeight)
        quantize_into(rows, part)
    whole = quantize(weight, kind)
    assert torch.equal(fused.values.float(), whole.values.float())
    assert torch.equal(fused.scales, whole.scales)
    assert (fused.kind, fused.shape, fused.nbytes) == (kind, (7, 5), 7 * 5 + 7 * 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [1, 5 * 48, 1 << 20])  # of one row, of five, of all
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_a_linear_layer_multiplies_by_the_dequantised_weight(
    kind: str, dtype: torch.dtype, block: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_linear, "_CPU_BLOCK", block)
    x = random(rows, 48, dtype=dtype)
    weight = quantize(random(33, 48) * torch.logspace(-2, 0, 33)[:, None], kind)
    exact = F.linear(x.float(), weight.dequantized(torch.float32))
    assert_close(linear(x, weight), exact.to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_unscaled_values_do_not_leave_the_range_of_fp16(kind: str) -> None:
    weight = quantize(torch.full((2, 2048), 0.5), kind)
    assert_close(linear(torch.ones(1, 2048).half(), weight), torch.full((1, 2), 1024.0).half(), tolerance=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_no_rows_are_no_rows(kind: str, dtype: torch.dtype) -> None:
    product = linear(torch.empty(0, 48, dtype=dtype), quantize(random(33, 48), kind))
    assert (product.shape, product.dtype) == ((0, 33), dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_on_a_gpu_a_linear_layer_needs_no_copy_of_the_weight_in_fp32(kind: str, dtype: torch.dtype) -> None:
    """Without a GPU: devices, dtypes and shapes of every operation are followed, nothing is computed."""

    class Largest(TorchDispatchMode):
        nbytes = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            assert {leaf.device.type for leaf in made} <= {"cuda"}
            self.nbytes = max([self.nbytes, *(leaf.nbytes for leaf in made)])
            return result

    with FakeTensorMode(), Largest() as largest:
        weight = QuantizedWeight.empty(512, 256, kind, torch.device("cuda"))
        product = linear(torch.empty(5, 256, dtype=dtype, device="cuda"), weight)
    assert (product.shape, product.dtype) == ((5, 512), dtype)
    assert largest.nbytes == 512 * 256 * dtype.itemsize
