"""Pearson's chi-square, without scipy: what the tests of draws judge their counts with."""

from __future__ import annotations

from math import sqrt

import torch

_FEWEST_EXPECTED = 5.0  # rarer outcomes are counted together, as the test asks for
_LIMIT = 4.0  # standard deviations: one fair table in 30 000 lies beyond it


def deviation(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    """How far counts [K] of independent draws lie from probabilities [K], as a standard normal value.

    Wilson and Hilferty's cube root turns the statistic into that. Outcomes of probability 0 must not have occurred.
    """
    counts, probabilities = counts.double(), probabilities.double()
    assert not counts[probabilities == 0].any(), "an outcome that is out of the question occurred"
    expected = probabilities * counts.sum() / probabilities.sum()
    common = expected >= _FEWEST_EXPECTED
    counts = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    if expected[-1] < _FEWEST_EXPECTED:  # too rare even together: part of the rarest common one
        rarest = int(expected[:-1].argmin())
        expected[rarest] += expected[-1]
        counts[rarest] += counts[-1]
        counts, expected = counts[:-1], expected[:-1]
    freedom = len(expected) - 1
    if freedom == 0:
        return 0.0
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * freedom)
    return float((statistic / freedom) ** (1 / 3) - (1 - spread)) / sqrt(spread)


def assert_fits(counts: torch.Tensor, probabilities: torch.Tensor) -> None:
    found = deviation(counts, probabilities)
    assert found < _LIMIT, f"{found:.1f} standard deviations from the expected distribution"
