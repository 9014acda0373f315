"""The codec's Snake: transformers' numbers, the kernel only where it passes its check."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from transformers.models.dac.modeling_dac import Snake1d

from higgs_core.codec import snake as snake_module
from higgs_core.codec.snake import Snake, install_snake
from higgs_core.kernels.snake import snake

CPU = torch.device("cpu")


def transformers_snake(channels: int) -> Snake1d:
    layer = Snake1d(channels)
    torch.nn.init.uniform_(layer.alpha, 0.05, 3.0, generator=torch.Generator().manual_seed(channels))
    return layer


@pytest.fixture
def model() -> Iterator[torch.nn.Module]:
    nested = torch.nn.Sequential(transformers_snake(3), torch.nn.Sequential(transformers_snake(3)))
    with torch.inference_mode():
        yield nested


@pytest.mark.parametrize("shape", [(1, 3, 1), (2, 3, 17), (1, 3, 4001)])
def test_it_gives_the_numbers_of_transformers_bit_for_bit(model: torch.nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 4
    expected, before = model(x), x.clone()
    install_snake(model, CPU)
    assert not any(isinstance(module, Snake1d) for module in model.modules())
    assert torch.equal(model(x), expected)
    assert torch.equal(x, before), "the input is used again, by the residual connection"


def test_it_is_installed_once(model: torch.nn.Module) -> None:
    install_snake(model, CPU)
    first = list(model.modules())
    install_snake(model, CPU)
    assert list(model.modules()) == first
    assert set(model.state_dict()) == {"0.alpha", "1.0.alpha"}, "what it derives is not saved"


class TestOnAGpu:
    """The choice between kernel and torch, with the kernel run by a stand-in on the CPU."""

    @pytest.fixture(autouse=True)
    def _gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snake_module, "HAS_TRITON", True)
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        cases = snake_module._cases
        monkeypatch.setattr(snake_module, "_cases", lambda model, _: cases(model, CPU))

    def test_a_kernel_that_agrees_is_used(self, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        shapes = []

        def kernel(x: torch.Tensor, alpha: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(x.shape))
            return x + inverse * (alpha * x).sin().square()

        monkeypatch.setattr(snake_module, "snake_triton", kernel)
        install_snake(model, torch.device("cuda"))
        assert {shape[1] for shape in shapes} == {3}, "the model's own numbers of channels"
        shapes.clear()
        model(torch.ones(1, 3, 5))
        assert shapes == [(1, 3, 5)] * 2

    @pytest.mark.parametrize("wrong", [lambda x, alpha, inverse: x, lambda x, alpha, inverse: 1 / 0])
    def test_one_that_does_not_is_off_with_one_warning(
        self,
        model: torch.nn.Module,
        wrong: snake_module.SnakeFunction,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(snake_module, "snake_triton", wrong)
        install_snake(model, torch.device("cuda"))
        assert [module._function for module in model.modules() if isinstance(module, Snake)] == [snake, snake]
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "The Snake kernel is off" in record.getMessage()

    def test_without_triton_it_is_torch(self, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snake_module, "HAS_TRITON", False)
        install_snake(model, torch.device("cuda"))
        assert [module._function for module in model.modules() if isinstance(module, Snake)] == [snake, snake]
