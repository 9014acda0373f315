"""The sampler's distribution against a plain softmax, its filters against transformers' own, and RAS."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.sampler import (
    FAST_TOP_K,
    Sampler,
    SamplerRows,
    TextSampler,
    apply_temperature_top_k_top_p,
    max_top_k_for,
)
from tests.helpers.chi_square import assert_fits

CPU = torch.device("cpu")
CODEBOOKS, CODES = 8, 1026
STREAM_BOS, STREAM_EOS = 1024, 1025
PLAIN = GenerationParams(temperature=1.0, top_p=None, top_k=None, ras_win_len=None)
MIXTURE = [
    PLAIN,
    replace(PLAIN, temperature=0.3, top_p=0.95, top_k=50),
    replace(PLAIN, top_k=5),
    replace(PLAIN, temperature=1.7, top_p=0.6),
    replace(PLAIN, temperature=0.8, top_p=0.8, top_k=12),
    replace(PLAIN, top_k=1),
    replace(PLAIN, top_p=1e-6),
    replace(PLAIN, temperature=0.0, top_p=0.9, top_k=3),
]


def rows_of(params: list[GenerationParams], seeds: list[int] | None = None, codes: int = CODES) -> SamplerRows:
    rows = SamplerRows.allocate(len(params), CPU)
    for slot, (param, seed) in enumerate(zip(params, seeds or [0] * len(params), strict=True)):
        rows.set(slot, param, seed)
    return rows


def silence(rows: int, codebooks: int = CODEBOOKS) -> torch.Tensor:
    """A RAS window that holds no column yet."""
    return torch.full((rows, MAX_RAS_WINDOW, codebooks), -1)


def plain_distribution(logits: torch.Tensor, params: GenerationParams) -> torch.Tensor:
    """What the documented order of temperature, top-k and top-p makes of logits [V], token by token, in fp64."""
    logits = logits.double()
    if params.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).double()
    probabilities = torch.softmax(logits / params.temperature, -1)
    best_first = sorted(range(len(logits)), key=lambda token: -float(logits[token]))[: params.top_k]
    kept, reached = [], 0.0
    total = float(probabilities[best_first].sum())
    for token in best_first:
        if reached < (params.top_p or 1.0):
            kept.append(token)
        reached += float(probabilities[token]) / total
    result = torch.zeros_like(probabilities)
    result[kept] = probabilities[kept]
    return result / result.sum()


def counts_of(tokens: torch.Tensor, codes: int) -> torch.Tensor:
    return torch.bincount(tokens, minlength=codes)


# --- the distribution


@pytest.mark.parametrize("seed", [0, 2**62 + 12345])
def test_each_row_of_a_mixed_batch_draws_from_its_own_distribution(seed: int) -> None:
    """Draws of one seed over many steps, rows of eight parameter sets side by side."""
    codebooks, codes, steps = 3, 40, 6000
    logits = torch.randn(codebooks, codes, generator=torch.Generator().manual_seed(1)) * 2
    sampler, sets = Sampler(codebooks, codes, CPU), len(MIXTURE)
    rows = rows_of(MIXTURE * 200, [seed + at for at in range(sets)] * 200, codes)
    found = []
    for start in range(0, steps, 200):
        step = torch.arange(start, start + 200).repeat_interleave(sets)
        found.append(sampler(logits.expand(len(step), -1, -1), silence(len(step), codebooks), rows, step, codes))
    tokens = torch.cat(found).view(steps, sets, codebooks)
    for row, params in enumerate(MIXTURE):
        for codebook in range(codebooks):
            counts = counts_of(tokens[:, row, codebook], codes)
            assert_fits(counts, plain_distribution(logits[codebook], params))


def test_draws_of_different_seeds_follow_the_distribution_over_the_real_vocabulary() -> None:
    """Many requests at the same step, as a service sees them, with the parameters that most of them use."""
    requests, batch = 3000, 500
    logits = torch.randn(CODES, generator=torch.Generator().manual_seed(2)) * 3
    sampler = Sampler(2, CODES, CPU)
    params = replace(PLAIN, temperature=1.0, top_p=0.95, top_k=50)
    found = []
    for start in range(0, requests, batch):
        rows = rows_of([params] * batch, list(range(start, start + batch)))
        step = torch.full((batch,), 17)
        found.append(sampler(logits.expand(batch, 2, -1), silence(batch, 2), rows, step, FAST_TOP_K))
    tokens = torch.cat(found)
    expected = plain_distribution(logits, params)
    for codebook in range(2):
        assert_fits(counts_of(tokens[:, codebook], CODES), expected)
    # Codebooks are drawn on their own: the same logits give the same token no more often than chance has it.
    together = float((tokens[:, 0] == tokens[:, 1]).double().mean())
    assert together == pytest.approx(float((expected**2).sum()), abs=0.03)


def test_steps_are_independent() -> None:
    """Pairs of draws at successive steps fill the table of pairs as independent draws do."""
    codes = 6
    logits = torch.randn(codes, generator=torch.Generator().manual_seed(3))
    sampler, rows = Sampler(1, codes, CPU), rows_of([PLAIN] * 4000, [77] * 4000, codes)
    tokens = sampler(logits.expand(4000, 1, -1), silence(4000, 1), rows, torch.arange(4000), codes)[:, 0]
    expected = torch.softmax(logits, -1)
    pairs = counts_of(tokens[:-1:2] * codes + tokens[1::2], codes * codes)
    assert_fits(pairs, (expected[:, None] * expected).flatten())


@pytest.mark.parametrize("params", [PLAIN, MIXTURE[1]], ids=["everything off", "top-k and top-p"])
def test_temperature_0_is_argmax_whatever_the_filters_and_the_seed(params: GenerationParams) -> None:
    greedy = replace(params, temperature=0.0)
    logits = torch.randn(16, CODEBOOKS, CODES, generator=torch.Generator().manual_seed(4))
    rows = rows_of([greedy] * 16, list(range(16)))
    tokens = Sampler(CODEBOOKS, CODES, CPU)(logits, silence(16), rows, torch.arange(16), max_top_k_for([greedy], CODES))
    assert torch.equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-3, 1e-12, 1e-37, 1e-39, 1e-44])
def test_a_temperature_next_to_0_is_as_good_as_greedy(temperature: float) -> None:
    params = replace(PLAIN, temperature=temperature, top_p=0.95, top_k=50)
    logits = torch.randn(4, CODEBOOKS, CODES, generator=torch.Generator().manual_seed(5)) * 5
    best = logits.topk(2).values
    logits.scatter_(-1, logits.argmax(-1, keepdim=True), best[..., :1] + 0.1)  # no near tie, which 0.001 may still lose
    tokens = Sampler(CODEBOOKS, CODES, CPU)(logits, silence(4), rows_of([params] * 4), torch.arange(4), FAST_TOP_K)
    assert torch.equal(tokens, logits.argmax(-1))


# --- the filters


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 2, 50, 64, 65, 700, 5000])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.1, 0.5, 0.95, 0.999])
def test_what_is_kept_is_what_transformers_keeps(temperature: float, top_k: int | None, top_p: float | None) -> None:
    params = replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p)
    logits = torch.randn(CODEBOOKS, CODES, generator=torch.Generator().manual_seed(6)) * 1.5
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = TopPLogitsWarper(top_p)(None, expected)
    for candidates in {max_top_k_for([params], CODES), CODES}:
        scores = apply_temperature_top_k_top_p(logits[None], rows_of([params]), candidates)[0]
        kept = scores.isfinite()
        assert torch.equal(scores[kept], expected[kept])
        if top_p is None:
            # Off is a sum of fp32 probabilities up to 1: rounding may cost a tail that a day of audio would not miss.
            lost = expected.double().softmax(-1).masked_fill(kept, 0).sum(-1)
            assert lost.max() < 1e-6
        else:
            assert torch.equal(kept, expected.isfinite())


def test_filters_are_each_rows_own() -> None:
    logits = torch.randn(len(MIXTURE), CODEBOOKS, CODES, generator=torch.Generator().manual_seed(7))
    together = apply_temperature_top_k_top_p(logits, rows_of(MIXTURE), CODES)
    for row, params in enumerate(MIXTURE):
        alone = apply_temperature_top_k_top_p(logits[row : row + 1], rows_of([params]), CODES)
        assert torch.equal(together[row], alone[0])


def test_tokens_tied_with_the_last_kept_one_stay_in() -> None:
    logits = torch.tensor([[[3.0, 2.0, 2.0, 2.0, 1.0, 0.0]]])
    for params in (replace(PLAIN, top_k=2), replace(PLAIN, top_p=0.5)):
        kept = apply_temperature_top_k_top_p(logits, rows_of([params], codes=6), 6)[0, 0].isfinite()
        assert kept.tolist() == [True, True, True, True, False, False]


def test_few_candidates_give_the_tokens_that_the_whole_vocabulary_gives() -> None:
    draw = random.Random(8)
    params = [
        GenerationParams(
            temperature=draw.choice([0.0, 0.3, 0.7, 1.0, 1.4]),
            top_k=draw.choice([1, 2, 7, 50, 63, 64]),
            top_p=draw.choice([None, 0.2, 0.8, 0.95, 0.999]),
            ras_win_len=draw.choice([None, 7]),
        )
        for _ in range(96)
    ]
    rows = rows_of(params, [draw.randrange(2**63) for _ in params])
    generator = torch.Generator().manual_seed(9)
    logits = torch.randn(96, CODEBOOKS, CODES, generator=generator) * 2
    window = torch.randint(0, CODES, (96, MAX_RAS_WINDOW, CODEBOOKS), generator=generator)
    sampler, step = Sampler(CODEBOOKS, CODES, CPU), torch.arange(96)
    assert max_top_k_for(params, CODES) == FAST_TOP_K
    few, whole = (sampler(logits, window, rows, step, count) for count in (FAST_TOP_K, CODES))
    assert torch.equal(few, whole)


@pytest.mark.parametrize(
    ("top_ks", "vocabulary", "expected"),
    [
        ([50], CODES, FAST_TOP_K),
        ([1, FAST_TOP_K], CODES, FAST_TOP_K),
        ([50, FAST_TOP_K + 1], CODES, CODES),
        ([50, None], CODES, CODES),
        ([10**6], CODES, CODES),
        ([50], 20, 20),
        ([50], FAST_TOP_K, FAST_TOP_K),
    ],
)
def test_the_widest_row_decides_how_many_candidates_are_looked_at(
    top_ks: list[int | None], vocabulary: int, expected: int
) -> None:
    assert max_top_k_for([replace(PLAIN, top_k=top_k) for top_k in top_ks], vocabulary) == expected


# --- whose noise it is


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_a_requests_tokens_do_not_depend_on_batch_or_row(batch: int) -> None:
    sampler = Sampler(CODEBOOKS, CODES, CPU)
    logits = torch.randn(batch, CODEBOOKS, CODES, generator=torch.Generator().manual_seed(10))
    params = replace(PLAIN, temperature=0.9, top_k=40, top_p=0.9)
    mine = torch.randn(CODEBOOKS, CODES, generator=torch.Generator().manual_seed(11))
    alone = sampler(mine[None], silence(1), rows_of([params], [4242]), torch.tensor([33]), FAST_TOP_K)
    for row in range(batch):
        crowd = logits.index_copy(0, torch.tensor([row]), mine[None])
        company = [params if at == row else replace(PLAIN, top_k=None) for at in range(batch)]
        steps = torch.tensor([33 if at == row else at for at in range(batch)])
        seeds = [4242 if at == row else at for at in range(batch)]
        tokens = sampler(crowd, silence(batch), rows_of(company, seeds), steps, CODES)
        assert torch.equal(tokens[row], alone[0])


def test_seed_and_step_each_change_the_draw() -> None:
    sampler, logits = Sampler(CODEBOOKS, CODES, CPU), torch.zeros(3, CODEBOOKS, CODES)
    tokens = sampler(logits, silence(3), rows_of([PLAIN] * 3, [1, 2, 1]), torch.tensor([5, 5, 6]), CODES)
    assert (tokens[0] != tokens[1]).any()
    assert (tokens[0] != tokens[2]).any()
    assert len(set(tokens[0].tolist())) > 1  # equal logits, yet each codebook has its own draw


# --- repetition-aware sampling


def favourite(token: int, codes: int = CODES) -> torch.Tensor:
    """Logits [codes] whose argmax is `token` although nearly all of the raw probability lies elsewhere."""
    logits = torch.zeros(codes)
    logits[token] = 0.01
    return logits


def repeats_in(window: list[list[int]], length: int, codebook: int, token: int) -> int:
    """The documented count: columns equal to the token among the last `length`. window: columns, oldest first."""
    return sum(column[codebook] == token for column in (window[-length:] if length > 0 else []))


@pytest.mark.parametrize("temperature", [0.0, 0.002], ids=["greedy", "sampled"])
@pytest.mark.parametrize("token", [0, 700, STREAM_BOS, STREAM_EOS])
def test_ras_counts_each_rows_own_window_codebook_by_codebook(token: int, temperature: float) -> None:
    """Windows of every length and random repeats; greedy decoding and the stream's own tokens are counted too."""
    draw = random.Random(token)
    lengths = [None, -3, 0, 1, 2, 6, 7, 8, 63, 64]
    rows_count = 200
    params, windows = [], []
    for at in range(rows_count):
        most = draw.choice([1, 2, 3, 5])
        params.append(
            GenerationParams(
                temperature=temperature,
                top_k=1,
                top_p=None,
                ras_win_len=lengths[at % len(lengths)],
                ras_win_max_num_repeat=most,
            )
        )
        frequency = draw.choice([0.0, 0.02, 0.2, 0.5, 1.0])
        empty = draw.choice([0, 0, 30, 60, 64])
        windows.append(
            [
                [-1 if age < empty else token if draw.random() < frequency else 5 for _ in range(CODEBOOKS)]
                for age in range(MAX_RAS_WINDOW)
            ]
        )
    tokens = Sampler(CODEBOOKS, CODES, CPU)(
        favourite(token).expand(rows_count, CODEBOOKS, -1),
        torch.tensor(windows),
        rows_of(params, list(range(rows_count))),
        torch.arange(rows_count),
        FAST_TOP_K,
    )
    redrawn_rows = 0
    for row, param in enumerate(params):
        for codebook in range(CODEBOOKS):
            count = repeats_in(windows[row], param.ras_win_len or 0, codebook, token)
            redrawn = param.ras_win_len is not None and count >= param.ras_win_max_num_repeat
            # A redraw comes back to the favourite about once in a thousand times, and with this seed never.
            assert (int(tokens[row, codebook]) != token) == redrawn
            redrawn_rows += redrawn
    assert 300 < redrawn_rows < 1300


def test_ras_is_off_at_length_0_even_when_everything_repeats() -> None:
    window = torch.full((3, MAX_RAS_WINDOW, CODEBOOKS), 9)
    params = [replace(PLAIN, temperature=0.0, ras_win_len=length, ras_win_max_num_repeat=1) for length in (None, 0, -1)]
    tokens = Sampler(CODEBOOKS, CODES, CPU)(
        favourite(9).expand(3, CODEBOOKS, -1), window, rows_of(params), torch.arange(3), CODES
    )
    assert (tokens == 9).all()


def test_the_oldest_column_of_a_window_falls_out() -> None:
    """Seven columns back counts, eight does not: the newest column is the last one."""
    for age, redrawn in ((6, True), (7, False)):
        window = silence(1)
        window[0, MAX_RAS_WINDOW - 1 - age] = 9
        params = replace(PLAIN, temperature=0.0, ras_win_len=7, ras_win_max_num_repeat=1)
        tokens = Sampler(CODEBOOKS, CODES, CPU)(
            favourite(9).expand(1, CODEBOOKS, -1), window, rows_of([params], [3]), torch.tensor([0]), CODES
        )
        assert bool((tokens != 9).all()) == redrawn


@pytest.mark.parametrize(
    "params",
    [
        replace(PLAIN, temperature=0.0, ras_win_len=64),
        replace(PLAIN, temperature=0.2, top_k=2, top_p=0.3, ras_win_len=64),
        replace(PLAIN, temperature=5.0, ras_win_len=64),
    ],
    ids=["greedy", "cold and filtered", "hot"],
)
def test_a_redraw_comes_from_the_raw_logits(params: GenerationParams) -> None:
    """No temperature, no top-k, no top-p; drawn once, so that a repeated token may come again."""
    codes, count = 16, 5000
    logits = torch.randn(codes, generator=torch.Generator().manual_seed(12)) * 1.5
    window = torch.arange(MAX_RAS_WINDOW)[None, :, None].expand(count, -1, 1) % codes  # every token, four times
    rows = rows_of([params] * count, [6] * count, codes)
    tokens = Sampler(1, codes, CPU)(logits.expand(count, 1, -1), window, rows, torch.arange(count), codes)[:, 0]
    assert_fits(counts_of(tokens, codes), torch.softmax(logits, -1))


def test_a_redraw_is_independent_of_the_draw_that_it_replaces() -> None:
    codes, count = 6, 6000
    logits = torch.randn(1, codes, generator=torch.Generator().manual_seed(13))
    sampler, step = Sampler(1, codes, CPU), torch.arange(count)
    window = torch.arange(MAX_RAS_WINDOW)[None, :, None].expand(count, -1, 1) % codes
    first, second = (
        sampler(
            logits.expand(count, 1, -1),
            window,
            rows_of([replace(PLAIN, ras_win_len=length)] * count, [14] * count, codes),
            step,
            codes,
        )[:, 0]
        for length in (None, 64)
    )
    expected = torch.softmax(logits[0], -1)
    assert_fits(counts_of(first * codes + second, codes * codes), (expected[:, None] * expected).flatten())


# --- the text sampler

FORBIDDEN = (31, 47)


def text_rows(params: GenerationParams, seed: int = 0) -> SamplerRows:
    """As a slot holds them: set for the audio sampler, whose vocabulary is a codebook."""
    return rows_of([params], [seed])


@pytest.mark.parametrize("params", [PLAIN, MIXTURE[1], MIXTURE[5], replace(PLAIN, temperature=0.0)])
def test_placeholders_are_never_drawn_however_likely(params: GenerationParams) -> None:
    vocabulary = 1500
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(15))
    logits[0, list(FORBIDDEN)] = 30.0
    before = logits.clone()
    sampler, rows = TextSampler(vocabulary, FORBIDDEN, CPU), text_rows(params)
    drawn = {int(sampler(logits, rows, torch.tensor([step]))) for step in range(100)}
    assert not drawn & set(FORBIDDEN)
    assert torch.equal(logits, before)
    if params.temperature == 0 or params.top_k == 1:
        allowed = logits[0].index_fill(0, torch.tensor(FORBIDDEN), -torch.inf)
        assert drawn == {int(allowed.argmax())}


def test_text_is_drawn_from_what_is_left_without_the_placeholders() -> None:
    vocabulary, draws = 60, 1500
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(16))
    logits[0, list(FORBIDDEN)] = 5.0
    params = replace(PLAIN, temperature=0.7, top_k=20, top_p=0.9)
    sampler, rows = TextSampler(vocabulary, FORBIDDEN, CPU), text_rows(params, 17)
    tokens = torch.cat([sampler(logits, rows, torch.tensor([step])) for step in range(draws)])
    left = logits[0].index_fill(0, torch.tensor(FORBIDDEN), -torch.inf)
    assert_fits(counts_of(tokens, vocabulary), plain_distribution(left, params))


@pytest.mark.parametrize("top_k", [None, 600, 10**6])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_text_top_k_beyond_a_small_vocabulary_is_off(top_k: int | None, temperature: float) -> None:
    """The text vocabulary of a tiny checkpoint is smaller than a codebook."""
    vocabulary = 272
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(18))
    rows = text_rows(replace(PLAIN, temperature=temperature, top_k=top_k))
    drawn = int(TextSampler(vocabulary, FORBIDDEN, CPU)(logits, rows, torch.tensor([0])))
    assert 0 <= drawn < vocabulary


@pytest.mark.parametrize("top_k", [None, 3500])
def test_text_top_k_reaches_beyond_a_codebooks_size(top_k: int | None) -> None:
    """Off means the whole text vocabulary, and 3500 means 3500, although a codebook has 1026 entries."""
    vocabulary = 4000
    logits = -torch.arange(vocabulary, dtype=torch.float32)[None] * 1e-4  # token 0 is the likeliest, all nearly alike
    sampler, rows = TextSampler(vocabulary, (vocabulary - 1,), CPU), text_rows(replace(PLAIN, top_k=top_k))
    drawn = [int(sampler(logits, rows, torch.tensor([step]))) for step in range(60)]
    assert max(drawn) > 1026
    assert max(drawn) < (top_k or vocabulary)
