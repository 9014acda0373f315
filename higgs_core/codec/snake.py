"""Snake activations of the loaded codec, computed by the project's own function instead of transformers' chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from transformers.models.dac.modeling_dac import Snake1d

from higgs_core.kernels.checks.self_check import Case, checked
from higgs_core.kernels.optional_triton import HAS_TRITON
from higgs_core.kernels.snake import snake, snake_triton

SnakeFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

_EPS = 1e-9  # transformers' own, which keeps alpha from 0
_CHECKED_LENGTHS = (7, 960, 2500)


class Snake(torch.nn.Module):
    """Takes the place of transformers' Snake1d: [B, C, T] to [B, C, T]."""

    inverse: torch.Tensor

    def __init__(self, alpha: torch.nn.Parameter, function: SnakeFunction) -> None:
        """alpha: [1, C, 1]."""
        super().__init__()
        self.alpha = alpha
        self.register_buffer("inverse", (alpha.detach() + _EPS).reciprocal(), persistent=False)
        self._function = function

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self._function(hidden_states, self.alpha, self.inverse)


def install_snake(model: torch.nn.Module, device: torch.device, *, kernels: bool = True) -> None:
    """Replace every Snake of a codec that lies on `device`; on a GPU by the kernel, if it passes its check there.

    kernels: False takes the torch function on a GPU too.

    On a CPU the torch function gives the same numbers as transformers' in half the time: it allocates once.
    """
    function: SnakeFunction = snake
    if device.type == "cuda" and HAS_TRITON and kernels:
        with torch.inference_mode(), torch.cuda.device(device):
            function = checked("Snake", snake_triton, snake, _cases(model, device))
    parents = [module for module in model.modules() if not isinstance(module, Snake1d)]
    for parent in parents:
        for name, child in list(parent.named_children()):
            if isinstance(child, Snake1d):
                setattr(parent, name, Snake(child.alpha, function))


def _cases(model: torch.nn.Module, device: torch.device) -> Iterator[Case]:
    """x, alpha, inverse: every number of channels of the model, lengths that blocks divide and do not."""
    generator = torch.Generator().manual_seed(0)
    for channels in sorted({module.alpha.shape[1] for module in model.modules() if isinstance(module, Snake1d)}):
        alpha = torch.rand(1, channels, 1, generator=generator).mul(3).add(0.1).to(device)
        for length in _CHECKED_LENGTHS:
            x = torch.randn(2, channels, length, generator=generator).mul(3).to(device)
            yield Case((x, alpha, (alpha + _EPS).reciprocal()))
