"""Device functions that read a linear layer's weight, in the model's dtype or quantised, for products with the input.

An 8-bit number is read as such and converted in registers. Its scale belongs to an output feature, so that it is
applied once to the feature's sum instead of to every product.
"""

from __future__ import annotations

import torch

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.optional_triton import jit, tl

FP8_MIN_CAPABILITY = 89
"""The compute capability (89 is 8.9) from which on a GPU converts float8_e4m3fn."""


def values_and_scales(weight: Weight) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a kernel is launched with: values [out, in], and fp32 scales [out] of a quantised weight."""
    return (weight.values, weight.scales) if isinstance(weight, QuantizedWeight) else (weight, None)


@jit
def weight_tile(at: tl.tensor, inside: tl.tensor, dtype: tl.constexpr) -> tl.tensor:
    """The weight's numbers at the pointers `at`, any shape, as `dtype`, without their scales; 0 where not `inside`.

    inside: bool, broadcast to the shape of `at`; None reads everywhere.
    """
    # Weights are read once per step, so they should be the first to leave the cache.
    if inside is None:
        numbers = tl.load(at, eviction_policy="evict_first")
    else:
        numbers = tl.load(at, mask=inside, other=0.0, eviction_policy="evict_first")
    if numbers.dtype.is_fp8():
        # From Hopper on, Triton converts fp16 to bf16 by an instruction of low throughput; by way of fp32 it does not.
        numbers = numbers.to(tl.float32)
    return numbers.to(dtype)


@jit
def feature_scales(scales: tl.tensor, feature: tl.tensor, outer: tl.tensor) -> tl.tensor:
    """fp32, what the sums of the output features `feature` are to be multiplied by; 1 where `scales` is None.

    outer: output features there are.
    """
    factors = tl.full(feature.shape, 1.0, tl.float32)
    if scales is not None:
        factors = tl.load(scales + feature, mask=feature < outer, other=0.0)
    return factors


@jit
def prefetch_weight(line: tl.tensor, available: tl.tensor, LINES: tl.constexpr) -> None:
    """Brings the first LINES times 128 bytes behind each of the pointers `line` [N] into the L2 cache.

    Does not wait, so a program that is launched with PDL calls this before it waits for the one before.  Of a line only
    `available` numbers exist; what lies behind them is left alone.  LINES: a power of two.
    """
    NUMBERS: tl.constexpr = 1024 // line.dtype.element_ty.primitive_bitwidth
    place = tl.minimum(tl.arange(0, LINES) * NUMBERS, available - 1)
    at = line[:, None] + place[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [at], dtype=tl.int32, is_pure=False, pack=1
    )
