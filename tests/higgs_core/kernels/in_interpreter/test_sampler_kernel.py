"""The fused sampler in Triton's interpreter: the same tokens as `higgs_core.sampling.sampler.Sampler`."""

from __future__ import annotations

import pytest
import torch

from higgs_core.kernels.sampler import TritonSampler
from higgs_core.params import MAX_RAS_WINDOW
from higgs_core.sampling.sampler import Sampler, SamplerRows

CODEBOOKS, CODES = 3, 70
CPU = torch.device("cpu")


def rows_of(
    temperature: float = 1.0, top_k: int = CODES, top_p: float = 1.0, ras: tuple[int, int] = (0, 1), count: int = 2
) -> SamplerRows:
    def whole(value: int) -> torch.Tensor:
        return torch.full((count,), value)

    seeds = torch.randint(0, 2**63 - 1, (count,))
    return SamplerRows(
        torch.full((count,), temperature),
        whole(top_k),
        torch.full((count,), top_p),
        whole(ras[0]),
        whole(ras[1]),
        seeds,
    )


def both(
    logits: torch.Tensor, window: torch.Tensor, rows: SamplerRows, step: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    step = torch.randint(0, 4096, logits.shape[:1]) if step is None else step
    shape = (*logits.shape[1:], CPU)
    kernel = TritonSampler(*shape)(logits, window, rows, step, logits.shape[-1])
    return kernel, Sampler(*shape)(logits, window, rows, step, logits.shape[-1])


def silence(count: int = 2, codebooks: int = CODEBOOKS) -> torch.Tensor:
    return torch.full((count, MAX_RAS_WINDOW, codebooks), -1)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(CODES, 1.0), (5, 1.0), (1, 1.0), (CODES, 0.8), (20, 0.5), (50, 0.01)])
def test_every_filter_draws_the_same_tokens(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(2, CODEBOOKS, CODES) * 3
    kernel, expected = both(logits, silence(), rows_of(temperature, top_k, top_p))
    assert torch.equal(kernel, expected)


def test_tokens_tied_with_the_last_kept_one_stay_in() -> None:
    logits = torch.randn(4, CODEBOOKS, CODES).mul(2).round()  # many ties, -0.0 and 0.0 among them
    for top_k, top_p in ((3, 1.0), (CODES, 0.6)):
        kernel, expected = both(logits, silence(4), rows_of(1.0, top_k, top_p, count=4))
        assert torch.equal(kernel, expected)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("ras", [(7, 2), (1, 1), (MAX_RAS_WINDOW, 3), (0, 1)])
def test_ras_draws_repeats_again(temperature: float, ras: tuple[int, int]) -> None:
    logits = torch.randn(4, CODEBOOKS, CODES)
    logits[..., :3] += 4
    window = torch.randint(-1, 3, (4, MAX_RAS_WINDOW, CODEBOOKS))
    window[:, -3:] = logits.argmax(-1)[:, None]
    kernel, expected = both(logits, window, rows_of(temperature, 5, 0.9, ras, count=4))
    assert torch.equal(kernel, expected)
    _, without = both(logits, window, rows_of(0.0, count=4))
    if temperature == 0 and ras[0]:
        assert not torch.equal(kernel, without)  # the case does exercise the redraw


def test_the_full_vocabulary_with_different_parameters_a_row() -> None:
    logits = torch.randn(3, 2, 1026) * 4
    rows = SamplerRows(
        torch.tensor([0.3, 0.0, 1.0]),
        torch.tensor([50, 1026, 1026]),
        torch.tensor([0.95, 1.0, 0.9]),
        torch.tensor([7, 7, 0]),
        torch.tensor([2, 2, 1]),
        torch.tensor([0, 2**63 - 1, 12345]),
    )
    kernel, expected = both(logits, silence(3, 2), rows, torch.tensor([0, 1, 2**31]))
    assert torch.equal(kernel, expected)


def test_logits_of_the_models_dtype_are_converted_inside() -> None:
    logits = (torch.randn(2, CODEBOOKS, CODES) * 3).bfloat16()
    kernel, expected = both(logits, silence(), rows_of(0.7, 50, 0.95, (7, 2)), torch.arange(2))
    converted, _ = both(logits.float(), silence(), rows_of(0.0), torch.arange(2))
    greedy, _ = both(logits, silence(), rows_of(0.0), torch.arange(2))
    assert torch.equal(kernel, expected)
    assert torch.equal(greedy, converted)


def test_a_row_alone_from_the_middle_of_the_state_draws_what_it_draws_among_others() -> None:
    logits, window, rows = torch.randn(4, CODEBOOKS, CODES), silence(4), rows_of(ras=(7, 2), count=4)
    step = torch.arange(4)
    together, _ = both(logits, window, rows, step)
    alone, _ = both(logits[1:2], window[1:2], rows.rows(1, 2), step[1:2])
    assert torch.equal(alone[0], together[1])


def test_logits_that_are_not_numbers_still_give_a_code() -> None:
    logits = torch.full((1, CODEBOOKS, CODES), torch.nan)
    tokens = TritonSampler(CODEBOOKS, CODES, CPU)(logits, silence(1), rows_of(count=1), torch.zeros(1).long(), CODES)
    assert ((tokens >= 0) & (tokens < CODES)).all()
