"""Copies of host tensors to the device that do not make the host wait."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host tensor on `device`. On a CPU the tensor itself.

    The copy to a GPU goes through pinned memory: from other memory the host would wait for it.
    """
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
