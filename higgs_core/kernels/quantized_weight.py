"""A weight in 8 bits with one scale an output feature."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """values: int8 or float8_e4m3fn [out, in].  scales: float32 [out]; weight = values * scales[:, None]."""

    values: torch.Tensor
    scales: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def dequantized(self, dtype: torch.dtype) -> torch.Tensor:
        """[out, in]."""
        return (self.values.to(torch.float32) * self.scales[:, None]).to(dtype)


Weight = torch.Tensor | QuantizedWeight
"""Of a linear layer, [out, in]: in the model's dtype, or quantised."""
