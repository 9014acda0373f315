"""Counter-based noise against SplitMix64 in plain Python integers, and as a source of randomness."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.sampling.noise import draw_counters, gumbel, mix64
from tests.helpers.chi_square import assert_fits

WORD = 2**64
GOLDEN_RATIO = 0x9E3779B97F4A7C15
EULER = 0.5772156649015329
CPU = torch.device("cpu")


def scrambled(word: int) -> int:
    """SplitMix64's output of a state."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % WORD
    return word ^ (word >> 31)


def unscrambled(word: int) -> int:
    """The state that gives an output: each step of `scrambled` undone, last one first."""

    def undo_shift(value: int, shift: int) -> int:
        result = value
        for _ in range(64 // shift):
            result = value ^ (result >> shift)
        return result

    word = undo_shift(word, 31) * pow(0x94D049BB133111EB, -1, WORD) % WORD
    word = undo_shift(word, 27) * pow(0xBF58476D1CE4E5B9, -1, WORD) % WORD
    return undo_shift(word, 30)


def split_mix(state: int) -> Iterator[int]:
    """The generator as published: advance by the golden ratio, scramble."""
    while True:
        state = (state + GOLDEN_RATIO) % WORD
        yield scrambled(state)


def key_of(seed: int, step: int) -> int:
    """SplitMix64 is seeded with the seed's own first output; a step's key is its scrambled state after `step` turns."""
    first = next(split_mix(seed))
    return scrambled((first + step * GOLDEN_RATIO) % WORD)


def slow_gumbel(seed: int, step: int, count: int) -> list[float]:
    stream = split_mix(key_of(seed, step))
    uniforms = [((next(stream) >> 41) + 0.5) / 2**23 for _ in range(count)]
    return [-log(-log(uniform)) for uniform in uniforms]


def signed(word: int) -> int:
    return word - WORD if word >= WORD // 2 else word


def noise(seeds: list[int], steps: list[int], count: int) -> torch.Tensor:
    return gumbel(torch.tensor(seeds), torch.tensor(steps), draw_counters(count, CPU))


def test_the_slow_reference_gives_the_published_sequence() -> None:
    stream = split_mix(0)
    assert [next(stream) for _ in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert unscrambled(scrambled(0x0123456789ABCDEF)) == 0x0123456789ABCDEF


@given(words=st.lists(st.integers(0, WORD - 1), min_size=1, max_size=64))
@settings(max_examples=60)
def test_the_finalizer_is_splitmix64s(words: list[int]) -> None:
    mixed = mix64(torch.tensor([signed(word) for word in words])).tolist()
    assert [value % WORD for value in mixed] == [scrambled(word) for word in words]


@given(seed=st.integers(0, 2**63 - 1), step=st.integers(0, 2**31))
@settings(max_examples=40)
def test_a_draw_is_the_slow_references(seed: int, step: int) -> None:
    expected = torch.tensor(slow_gumbel(seed, step, 37))
    torch.testing.assert_close(noise([seed], [step], 37)[0], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("step", [0, 1, 8192])
def test_the_ends_of_the_ranges_are_like_the_rest(seed: int, step: int) -> None:
    expected = torch.tensor(slow_gumbel(seed, step, 1000))
    torch.testing.assert_close(noise([seed], [step], 1000)[0], expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 17])
def test_a_requests_noise_is_the_same_whatever_the_batch_and_the_row(rows: int) -> None:
    count = 8 * 1026 + 3  # odd, so that vector and remainder lanes of the logarithm swap between the rows
    alone = noise([123456789], [41], count)[0]
    seeds, steps = list(range(rows)), list(range(100, 100 + rows))
    for row in range(rows):
        batch = noise(
            [123456789 if at == row else seed for at, seed in enumerate(seeds)],
            [41 if at == row else step for at, step in enumerate(steps)],
            count,
        )
        assert torch.equal(batch[row], alone)


def test_a_longer_vocabulary_leaves_the_earlier_draws_as_they_are() -> None:
    assert torch.equal(noise([7], [3], 500)[0], noise([7], [3], 9000)[0, :500])


@pytest.mark.parametrize("top_bits", [0, 1, 2**23 - 2, 2**23 - 1, 2**22])
@pytest.mark.parametrize("rest", [0, 2**41 - 1])
def test_extreme_hash_values_give_finite_noise(top_bits: int, rest: int) -> None:
    """Counters are chosen so that the hash comes out as wanted: all zeros, all ones and their neighbours."""
    seed, step, wanted = 99, 5, (top_bits << 41) | rest
    counter = signed((unscrambled(wanted) - key_of(seed, step)) % WORD)
    found = gumbel(torch.tensor([seed]), torch.tensor([step]), torch.tensor([counter]))
    assert torch.isfinite(found).all()
    expected = -log(-log((top_bits + 0.5) / 2**23))
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_noise_is_standard_gumbel() -> None:
    drawn = noise([20, 21, 22, 23], [0, 1, 2, 3], 100_000).flatten().double()
    assert drawn.mean().item() == pytest.approx(EULER, abs=0.01)
    assert drawn.var().item() == pytest.approx(pi**2 / 6, abs=0.03)
    uniform = torch.exp(-torch.exp(-drawn))
    counts = torch.histc(uniform, bins=200, min=0, max=1)
    assert_fits(counts, torch.full((200,), 1 / 200))


def test_noise_is_uniform_over_the_steps_of_one_draw() -> None:
    """What one token sees from step to step and from seed to seed, where the counter stays and the key moves."""
    for seeds, steps in (([5] * 20_000, list(range(20_000))), (list(range(20_000)), [5] * 20_000)):
        uniform = torch.exp(-torch.exp(-noise(seeds, steps, 3).double()))
        for draw in range(3):
            assert_fits(torch.histc(uniform[:, draw], bins=64, min=0, max=1), torch.full((64,), 1 / 64))


@pytest.mark.parametrize(
    ("other_seed", "other_step", "shift"),
    [(1001, 50, 0), (1000, 51, 0), (1000, 50, 1), (1000, 50, 1026), (1000, 50, 8 * 1026), (1001, 49, 0)],
    ids=["next seed", "next step", "next code", "next codebook", "redraw", "seed up and step down"],
)
def test_neighbouring_draws_are_independent(other_seed: int, other_step: int, shift: int) -> None:
    """Draws of neighbouring counters fill an 8 by 8 table evenly, which streams that overlap would not."""
    count = 40_000
    first = noise([1000], [50], count)[0].double()
    second = noise([other_seed], [other_step], count + shift)[0, shift:].double()
    cells = [(torch.exp(-torch.exp(-value)) * 8).long().clamp(max=7) for value in (first, second)]
    counts = torch.bincount(cells[0] * 8 + cells[1], minlength=64)
    assert_fits(counts, torch.full((64,), 1 / 64))
