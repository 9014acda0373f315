"""The linear layers of a decoder layer in torch, with the RMSNorm before them and the residual addition after them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from higgs_core.kernels.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.rms_norm import rms_norm
from higgs_core.kernels.swiglu import swiglu


def linear(x: torch.Tensor, weight: Weight) -> torch.Tensor:
    """x: [N, in], weight: [out, in]. Returns [N, out]."""
    if isinstance(weight, QuantizedWeight):
        weight = weight.dequantized(x.dtype)
    return F.linear(x, weight)


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
