"""The sampler of a CPU draws exactly what the sampler of a GPU draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.candidate_sampler import CandidateSampler
from higgs_core.sampling.sampler import FAST_TOP_K, Sampler, SamplerRows, max_top_k_for

CODEBOOKS, CODES = 8, 1026
CPU = torch.device("cpu")
USUAL = GenerationParams(temperature=1.0, top_k=50, top_p=0.95, ras_win_len=7, ras_win_max_num_repeat=2)
MIXED = [
    USUAL,
    replace(USUAL, temperature=0.0),
    replace(USUAL, temperature=0.3, top_p=None),
    replace(USUAL, top_k=1),
    replace(USUAL, top_k=63, top_p=0.5),
    replace(USUAL, ras_win_len=None),
    replace(USUAL, temperature=2.5, ras_win_len=3, ras_win_max_num_repeat=1),
]


def rows_of(params: list[GenerationParams]) -> SamplerRows:
    rows = SamplerRows.allocate(len(params), CPU)
    for slot, each in enumerate(params):
        rows.set(slot, each, seed=977 * slot + 1)
    return rows


class Both:
    """Both samplers on the same input."""

    def __init__(self, params: list[GenerationParams], codes: int = CODES) -> None:
        self.rows = rows_of(params)
        self._max_top_k = max_top_k_for(params, codes)
        self._whole, self._few = (kind(CODEBOOKS, codes, CPU) for kind in (Sampler, CandidateSampler))

    def check(self, logits: torch.Tensor, window: torch.Tensor, step: int) -> torch.Tensor:
        steps = torch.full((logits.shape[0],), step)
        expected = self._whole(logits, window, self.rows, steps, self._max_top_k)
        found = self._few(logits, window, self.rows, steps, self._max_top_k)
        assert torch.equal(found, expected)
        return found


def empty_window(rows: int) -> torch.Tensor:
    return torch.full((rows, MAX_RAS_WINDOW, CODEBOOKS), -1)


@pytest.mark.parametrize("spread", [0.5, 4.0, 20.0])
def test_every_row_of_a_mixed_batch_draws_the_same(spread: float) -> None:
    both = Both(MIXED)
    torch.manual_seed(0)
    for step in range(40):
        logits = torch.randn(len(MIXED), CODEBOOKS, CODES) * spread
        both.check(logits, empty_window(len(MIXED)), step)


def test_what_repeats_is_drawn_again_from_the_same_noise() -> None:
    both = Both(MIXED)
    torch.manual_seed(1)
    redrawn = 0
    for step in range(40):
        logits = torch.randn(len(MIXED), CODEBOOKS, CODES)
        logits[..., :3] += 9  # so that three tokens take turns
        window = torch.randint(0, 3, (len(MIXED), MAX_RAS_WINDOW, CODEBOOKS))
        redrawn += int((both.check(logits, window, step) >= 3).sum())
    assert redrawn > 0


@pytest.mark.parametrize("tied", [2, 49, 50, 51, FAST_TOP_K, FAST_TOP_K + 1, CODES])
def test_ties_beyond_the_candidates_are_kept_as_well(tied: int) -> None:
    both = Both(MIXED)
    torch.manual_seed(2)
    for step in range(10):
        logits = torch.randn(len(MIXED), CODEBOOKS, CODES).clamp_(max=2.0)
        logits[..., torch.randperm(CODES)[:tied]] = 3.0
        both.check(logits, empty_window(len(MIXED)), step)


def test_logits_of_low_precision_are_often_tied() -> None:
    both = Both(MIXED)
    torch.manual_seed(3)
    for step in range(40):
        logits = torch.randn(len(MIXED), CODEBOOKS, CODES).bfloat16().float()
        both.check(logits, empty_window(len(MIXED)), step)


@pytest.mark.parametrize("top_k", [FAST_TOP_K, FAST_TOP_K + 1, None])
def test_as_many_candidates_as_are_looked_at_or_more(top_k: int | None) -> None:
    both = Both([USUAL, replace(USUAL, top_k=top_k)])
    torch.manual_seed(4)
    for step in range(10):
        both.check(torch.randn(2, CODEBOOKS, CODES), empty_window(2), step)


def test_a_vocabulary_smaller_than_the_candidates() -> None:
    both = Both([USUAL, replace(USUAL, temperature=0.0)], codes=20)
    torch.manual_seed(5)
    for step in range(10):
        both.check(torch.randn(2, CODEBOOKS, 20), empty_window(2), step)
