"""Random tensors for the check of the kernels at start: like a real model's, the same at every start."""

from __future__ import annotations

import torch

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight

_OUTLIER = 8.0  # a feature so many times as large as the others; if it were a row by itself, chance would decide
_ROWS_AT_ONCE = 1024  # of a weight that is being quantised, which bounds the copies in fp32


class RandomInputs:
    """Of one device; `dtype` is the model's."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._generator = torch.Generator().manual_seed(0)
        # Large tensors are drawn on the device itself: a weight's millions of numbers take a second on the host.
        self._on_device = self._generator if device.type == "cpu" else torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int) -> torch.Tensor:
        generator = self._on_device
        drawn = torch.empty(shape, dtype=self._dtype, device=generator.device).normal_(generator=generator)
        return drawn.to(self._device)

    def fill(self, tensor: torch.Tensor) -> None:
        """Draw a tensor of this device anew."""
        tensor.normal_(generator=self._on_device)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """int64, low to high - 1."""
        return torch.randint(low, high, shape, generator=self._generator).to(self._device)

    def activations(self, rows: int, width: int) -> torch.Tensor:
        """[rows, width] with one outlier feature, the last; each row has a scale of its own."""
        x = self.normal(rows, width)
        x[:, -1] *= _OUTLIER
        return x.mul_(self.normal(rows, 1).mul_(0.5).exp_())

    def norm_weight(self, width: int) -> torch.Tensor:
        return self.normal(width).mul_(0.3).add_(1.0)

    def weight(self, out_features: int, in_features: int, kind: torch.dtype | None = None) -> Weight:
        """Each output feature has a scale of its own. kind: of a quantised weight, int8 or float8_e4m3fn."""
        weight = self.normal(out_features, in_features).mul_(in_features**-0.5)
        weight.mul_(self.normal(out_features, 1).mul_(0.3).exp_())
        return weight if kind is None else _quantised(weight, kind)


def _quantised(weight: torch.Tensor, kind: torch.dtype) -> QuantizedWeight:
    values = torch.empty_like(weight, dtype=kind)
    scales = torch.empty(weight.shape[0], dtype=torch.float32, device=weight.device)
    largest = torch.finfo(kind).max if kind.is_floating_point else torch.iinfo(kind).max
    for start in range(0, weight.shape[0], _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        wide = weight[part].float()
        scales[part] = wide.abs().amax(1) / largest
        wide /= scales[part, None]
        values[part] = (wide if kind.is_floating_point else wide.round_()).to(kind)
    return QuantizedWeight(values, scales)
