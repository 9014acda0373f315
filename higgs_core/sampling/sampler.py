"""The sampler: temperature, top-k, top-p, one draw per codebook, RAS; parameters per row, no synchronisation.

RAS (repetition-aware sampling): Chen et al., "VALL-E 2" (2024), section 3.1, as Boson AI applies it to delayed columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.noise import draw_counters, gumbel

FAST_TOP_K = 64
"""Up to this top-k the sampler finds so many best scores instead of sorting the whole vocabulary."""

_MIN_TEMPERATURE = 1e-6  # below it sampling is greedy: logits divided by it would overflow
_TOP_K_OFF = 2**31  # more than any vocabulary


@dataclass(frozen=True, eq=False)
class SamplerRows:
    """Per-row parameters of the sampler, one tensor a parameter."""

    temperature: torch.Tensor  # float32 [B], 0 is greedy
    top_k: torch.Tensor  # int64 [B], the vocabulary's size or more is off
    top_p: torch.Tensor  # float32 [B], 1 is off
    ras_window: torch.Tensor  # int64 [B], 0 is off
    ras_win_max_num_repeat: torch.Tensor  # int64 [B]
    seed: torch.Tensor  # int64 [B]

    @classmethod
    def allocate(cls, slots: int, device: torch.device) -> SamplerRows:
        """Rows of greedy sampling without RAS."""

        def integers(value: int) -> torch.Tensor:
            return torch.full((slots,), value, dtype=torch.int64, device=device)

        def floats(value: float) -> torch.Tensor:
            return torch.full((slots,), value, dtype=torch.float32, device=device)

        return cls(
            temperature=floats(0),
            top_k=integers(1),
            top_p=floats(1),
            ras_window=integers(0),
            ras_win_max_num_repeat=integers(1),
            seed=integers(0),
        )

    def rows(self, start: int, stop: int) -> SamplerRows:
        """Views of some rows."""
        return SamplerRows(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def gather(self, index: torch.Tensor) -> SamplerRows:
        """Copies of some rows. index: int64 [T]."""
        return SamplerRows(*(getattr(self, f.name)[index] for f in fields(self)))

    def set(self, slot: int, params: GenerationParams, seed: int) -> None:
        """Write one request's parameters."""
        # fill_, as an assignment would make the host wait for the GPU.
        self.temperature[slot].fill_(params.temperature if params.temperature >= _MIN_TEMPERATURE else 0.0)
        self.top_k[slot].fill_(params.top_k or _TOP_K_OFF)
        self.top_p[slot].fill_(1.0 if params.top_p is None else params.top_p)
        self.ras_window[slot].fill_(params.ras_window)
        self.ras_win_max_num_repeat[slot].fill_(params.ras_win_max_num_repeat)
        self.seed[slot].fill_(seed)


class Sampler:
    """The audio sampler. Its constant tensors are made once, so that a step allocates as little as possible."""

    def __init__(self, num_codebooks: int, codebook_size: int, device: torch.device) -> None:
        self._counters = draw_counters(2 * num_codebooks * codebook_size, device)  # first half: draw, second half: RAS
        self._shape = (2, num_codebooks, codebook_size)
        self._age = torch.arange(MAX_RAS_WINDOW - 1, -1, -1, device=device)[:, None]  # [W, 1], newest column has age 0

    def __call__(
        self,
        logits: torch.Tensor,  # [B, Q, V], in any dtype
        window: torch.Tensor,  # int64 [B, W, Q], oldest column first, -1 where there is none
        rows: SamplerRows,
        step: torch.Tensor,  # int64 [B]
        max_top_k: int,
    ) -> torch.Tensor:  # int64 [B, Q]
        logits = logits.float()
        noise = gumbel(rows.seed, step, self._counters).view(-1, *self._shape)
        scores = apply_temperature_top_k_top_p(logits, rows, max_top_k)
        sampled = (rows.temperature > 0)[:, None, None]
        tokens = torch.where(sampled, scores + noise[:, 0], scores).argmax(-1)
        redrawn = (logits + noise[:, 1]).argmax(-1)
        return torch.where(self.too_frequent(tokens, window, rows), redrawn, tokens)

    def too_frequent(self, tokens: torch.Tensor, window: torch.Tensor, rows: SamplerRows) -> torch.Tensor:
        """RAS: which of tokens [B, Q] occur too often in the recent columns, window [B, W, Q]. Returns bool [B, Q]."""
        counted = self._age < rows.ras_window[:, None, None]
        repeats = ((window == tokens[:, None]) & counted).sum(1)
        return repeats >= rows.ras_win_max_num_repeat[:, None]


def apply_temperature_top_k_top_p(logits: torch.Tensor, rows: SamplerRows, max_top_k: int) -> torch.Tensor:
    """Temperature, then top-k, then top-p, each codebook by itself.

    logits: float32 [B, Q, V].  max_top_k: at least the largest top_k of the batch; V when it is off in any row.
    Returns float32 [B, Q, V], -inf for the tokens that are left out. Tokens tied with the last kept one are kept.
    """
    scores = logits / torch.where(rows.temperature > 0, rows.temperature, 1.0)[:, None, None]
    best = scores.topk(max_top_k, dim=-1).values
    return scores.masked_fill(scores < top_k_top_p_threshold(best, rows), -torch.inf)


def top_k_top_p_threshold(best: torch.Tensor, rows: SamplerRows) -> torch.Tensor:
    """The lowest score that top-k, then top-p, keep.

    best: float32 [B, Q, K], the best scores in descending order, at least as many as the largest top_k of the batch or
    the whole vocabulary.  Returns float32 [B, Q, 1].
    """
    per_row = (slice(None), None, None)
    last = (rows.top_k.clamp(max=best.shape[-1]) - 1)[per_row]
    kth = best.gather(-1, last.expand(*best.shape[:2], 1))
    probabilities = best.masked_fill(best < kth, -torch.inf).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # probability of the better tokens
    # A sum of fp32 probabilities can reach 1 before its last term, so top_p 1 (off) needs a case of its own.
    within = (before < rows.top_p[per_row]) | (rows.top_p >= 1)[per_row]
    kept = (within & (probabilities > 0)).sum(-1, keepdim=True)
    return best.gather(-1, (kept - 1).clamp_(min=0))


def max_top_k_for(params: list[GenerationParams], vocabulary: int) -> int:
    """The `max_top_k` of a batch of these requests: FAST_TOP_K where that is enough, else the whole vocabulary."""
    needed = max((p.top_k or vocabulary for p in params), default=1)
    return FAST_TOP_K if needed <= FAST_TOP_K <= vocabulary else vocabulary


class TextSampler:
    """Draws one text token a row. forbidden: ids of tokens that are never drawn, such as audio placeholders."""

    def __init__(self, vocabulary: int, forbidden: tuple[int, ...], device: torch.device) -> None:
        self._counters = draw_counters(vocabulary, device)
        self._forbidden = torch.tensor(forbidden, device=device)

    def __call__(self, logits: torch.Tensor, rows: SamplerRows, step: torch.Tensor) -> torch.Tensor:
        """logits: float32 [B, V]; rows and step of B rows. Returns int64 [B]."""
        logits = logits.index_fill(-1, self._forbidden, -torch.inf)
        scores = apply_temperature_top_k_top_p(logits[:, None], rows, logits.shape[-1])[:, 0]
        with_noise = scores + gumbel(rows.seed, step, self._counters)
        return torch.where(rows.temperature[:, None] > 0, with_noise, scores).argmax(-1)
