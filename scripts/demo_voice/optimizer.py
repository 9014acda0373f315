"""Muon for the matrices of the layers, AdamW for embeddings, heads and norms.

Muon (Keller Jordan et al., 2024) replaces a momentum by the nearest semi-orthogonal matrix, found with five
Newton-Schulz steps; the scale that gives its steps the size of AdamW's is that of Liu et al., arXiv 2502.16982.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_SCALE = 0.2
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


class Optimizer:
    """state_dict and load_state_dict make a run resumable."""

    def __init__(self, model: nn.Module, weight_decay: float) -> None:
        named = list(model.named_parameters())
        self._matrices = [p for name, p in named if name.startswith("layers.") and p.dim() == 2]
        matrices = {id(parameter) for parameter in self._matrices}
        self._momenta = [torch.zeros_like(matrix) for matrix in self._matrices]
        self._adam = torch.optim.AdamW(
            [parameter for _, parameter in named if id(parameter) not in matrices], betas=(0.9, 0.95), weight_decay=0.0
        )
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        for matrix, momentum in zip(self._matrices, self._momenta, strict=True):
            if matrix.grad is None:
                continue
            momentum.lerp_(matrix.grad, 1 - _MOMENTUM)
            direction = orthogonal(matrix.grad.lerp(momentum, _MOMENTUM))
            matrix.mul_(1 - rate * self._weight_decay)
            matrix.add_(direction, alpha=-rate * _SCALE * max(matrix.shape) ** 0.5)

    def state_dict(self) -> dict[str, object]:
        return {"adam": self._adam.state_dict(), "momenta": self._momenta}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        for mine, theirs in zip(self._momenta, state["momenta"], strict=True):  # type: ignore[call-overload]
            mine.copy_(theirs)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the semi-orthogonal matrix nearest to [R, C]; its singular values lie between 0.7 and 1.2."""
    wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T).bfloat16()
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_STEPS):
        square = wide @ wide.T
        wide = _A * wide + (_B * square + _C * square @ square) @ wide
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).float()
