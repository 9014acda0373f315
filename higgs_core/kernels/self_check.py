"""Chooses the implementation of every operation for a device."""

from __future__ import annotations

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.ops import Ops, torch_ops


def ops_for(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Ops:
    """The operations of a decode step on `device`."""
    return torch_ops()
