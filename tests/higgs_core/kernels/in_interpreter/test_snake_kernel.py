"""Snake in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.snake import snake, snake_triton
from tests.helpers.kernel_shapes import random


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 5, 1024), (1, 3, 1025), (2, 3, 700), (3, 4, 2100)],
    ids=lambda shape: "x".join(map(str, shape)),
)
@pytest.mark.parametrize("amplitude", [1e-3, 1.0, 300.0])
def test_snake(shape: tuple[int, int, int], amplitude: float) -> None:
    x, alpha = random(*shape) * amplitude, torch.rand(1, shape[1], 1) * 3 + 0.01
    # The largest angles are some 4,000: there fp32 holds an angle to 2e-4, and so do both functions.
    found, before = snake_triton(x, alpha, alpha.reciprocal()), x.clone()
    torch.testing.assert_close(found, snake(x, alpha, alpha.reciprocal()), rtol=1e-6, atol=1e-6 / alpha.min().item())
    assert torch.equal(x, before)


def test_snake_of_a_transposed_input() -> None:
    x, alpha = random(2, 70, 3).transpose(1, 2), torch.rand(1, 3, 1) + 0.5
    torch.testing.assert_close(snake_triton(x, alpha, alpha.reciprocal()), snake(x, alpha, alpha.reciprocal()))


@pytest.mark.parametrize("angle", [0.0, 1e-20, torch.pi / 2, torch.pi, 3 * torch.pi / 2, -torch.pi, 1000 * torch.pi])
def test_the_square_of_the_sine_is_right_where_its_period_ends(angle: float) -> None:
    x, one = torch.full((1, 1, 4), angle), torch.ones(1, 1, 1)
    expected = x.double() + x.double().sin().square()
    torch.testing.assert_close(snake_triton(x, one, one).double(), expected, rtol=1e-7, atol=1e-6)
