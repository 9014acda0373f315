"""The linear layers of a decoder layer in torch, with the RMSNorm before them and the residual addition after them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.rms_norm import rms_norm
from higgs_core.kernels.swiglu import swiglu

_CPU_BLOCK = 1 << 20  # values cast at a time on a CPU, so that they are multiplied while they lie in its cache


def linear(x: torch.Tensor, weight: Weight) -> torch.Tensor:
    """x: [N, in], weight: [out, in]. Returns [N, out]."""
    return _quantized_linear(x, weight) if isinstance(weight, QuantizedWeight) else F.linear(x, weight)


def _quantized_linear(x: torch.Tensor, weight: QuantizedWeight) -> torch.Tensor:
    """The values in x's dtype, which is exact, times x, and then the scales.

    Scaling the product and not the weight saves a pass over it and its fp32 copy. The product is rounded once more, but
    no weight is, so that the error is about as large.
    """
    if not x.shape[0]:  # text or audio of a prefill that has none of it: nothing to cast the values for
        return x.new_empty(0, weight.shape[0])
    if x.dtype == torch.float16:  # a sum of values without their scales may leave its range
        return F.linear(x, weight.dequantized(x.dtype))
    outputs, inputs = weight.shape
    rows = max(_CPU_BLOCK // inputs, 1) if x.device.type == "cpu" else outputs
    product = x.new_empty(x.shape[0], outputs)
    for values, part in zip(weight.values.split(rows), product.split(rows, dim=1), strict=True):
        torch.mm(x, values.to(x.dtype).T, out=part)
    return product.mul_(weight.scales)


def norm_linear(x: torch.Tensor, norm: torch.Tensor, eps: float, weight: Weight) -> torch.Tensor:
    """linear(rms_norm(x)). x: [B, H], norm: [H], weight: [out, H]. Returns [B, out]."""
    return linear(rms_norm(x, norm, eps), weight)


def linear_add(x: torch.Tensor, weight: Weight, residual: torch.Tensor) -> torch.Tensor:
    """residual + linear(x). x: [B, in], weight: [out, in], residual: [B, out], overwritten and returned."""
    return residual.add_(linear(x, weight))


def norm_mlp_add(residual: torch.Tensor, norm: torch.Tensor, eps: float, gate_up: Weight, down: Weight) -> torch.Tensor:
    """residual + down(swiglu(gate_up(rms_norm(residual)))).

    residual: [B, H], overwritten and returned.  norm: [H].  gate_up: [2 I, H], the gate first.  down: [H, I].
    """
    return linear_add(swiglu(norm_linear(residual, norm, eps, gate_up)), down, residual)
