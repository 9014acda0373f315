"""The sampler: temperature, top-k, top-p, one draw a codebook, RAS. Tensors only, no host sync, parameters per row.

RAS (repetition-aware sampling): Chen et al., "VALL-E 2" (2024), section 3.1, as Boson AI applies it to delayed columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from higgs_core.params import MAX_RAS_WINDOW, GenerationParams
from higgs_core.sampling.noise import draw_counters, gumbel

FEW_CANDIDATES = 64
"""Up to this top-k the sampler looks at so many candidates instead of sorting the whole vocabulary."""

COLDEST = 1e-6
"""A temperature below is greedy: logits divided by it would overflow."""
OFF = 2**31


@dataclass(frozen=True, eq=False)
class SamplerRows:
    """Per-row parameters of the sampler, one tensor a parameter."""

    temperature: torch.Tensor  # float32 [B], 0 is greedy
    top_k: torch.Tensor  # int64 [B], the vocabulary's size or more is off
    top_p: torch.Tensor  # float32 [B], 1 is off
    ras_window: torch.Tensor  # int64 [B], 0 is off
    ras_max_repeat: torch.Tensor  # int64 [B]
    seed: torch.Tensor  # int64 [B]

    @classmethod
    def allocate(cls, slots: int, device: torch.device) -> SamplerRows:
        whole, real = torch.zeros(slots, dtype=torch.int64), torch.zeros(slots, dtype=torch.float32)
        return cls(*(t.to(device, copy=True) for t in (real, whole + 1, real + 1, whole, whole + 1, whole)))

    def rows(self, start: int, stop: int) -> SamplerRows:
        """Views of some rows."""
        return SamplerRows(*(getattr(self, f.name)[start:stop] for f in fields(self)))

    def set(self, slot: int, params: GenerationParams, seed: int) -> None:
        """Write one request's parameters."""
        # fill_ and not an assignment, which would make the host wait for the GPU.
        self.temperature[slot].fill_(params.temperature if params.temperature >= COLDEST else 0.0)
        self.top_k[slot].fill_(params.top_k or OFF)
        self.top_p[slot].fill_(1.0 if params.top_p is None else params.top_p)
        self.ras_window[slot].fill_(params.ras_window)
        self.ras_max_repeat[slot].fill_(params.ras_win_max_num_repeat)
        self.seed[slot].fill_(seed)


class Sampler:
    """Holds the constants of the audio sampler, so that a step allocates only what it must."""

    def __init__(self, num_codebooks: int, codebook_size: int, device: torch.device) -> None:
        self._counters = draw_counters(2 * num_codebooks * codebook_size, device)  # stage 0: draw, stage 1: RAS
        self._shape = (2, num_codebooks, codebook_size)
        self._age = torch.arange(MAX_RAS_WINDOW - 1, -1, -1, device=device)[:, None]  # [W, 1], newest column has age 0

    def __call__(
        self,
        logits: torch.Tensor,  # float32 [B, Q, V]
        window: torch.Tensor,  # int64 [B, W, Q], oldest column first, -1 where there is none
        rows: SamplerRows,
        step: torch.Tensor,  # int64 [B]
        candidates: int,
    ) -> torch.Tensor:  # int64 [B, Q]
        noise = gumbel(rows.seed, step, self._counters).view(-1, *self._shape)
        scores = filtered_scores(logits, rows, candidates)
        sampled = (rows.temperature > 0)[:, None, None]
        tokens = torch.where(sampled, scores + noise[:, 0], scores).argmax(-1)
        redrawn = (logits + noise[:, 1]).argmax(-1)
        counted = self._age < rows.ras_window[:, None, None]
        repeats = ((window == tokens[:, None]) & counted).sum(1)
        return torch.where(repeats >= rows.ras_max_repeat[:, None], redrawn, tokens)


def filtered_scores(logits: torch.Tensor, rows: SamplerRows, candidates: int) -> torch.Tensor:
    """Temperature, then top-k, then top-p, each codebook on its own.

    logits: float32 [B, Q, V].  candidates: the largest top_k of the batch or more; V when it is off anywhere.
    Returns float32 [B, Q, V] with -inf where a token is out. Tokens tied with the last kept one stay in.
    """
    per_row = (slice(None), None, None)
    scores = logits / torch.where(rows.temperature > 0, rows.temperature, 1.0)[per_row]
    best = scores.topk(candidates, dim=-1).values  # [B, Q, K], descending
    last = (rows.top_k.clamp(max=candidates) - 1)[per_row]
    kth = best.gather(-1, last.expand(*best.shape[:2], 1))
    probabilities = best.masked_fill(best < kth, -torch.inf).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # probability of strictly better candidates
    # Sums of fp32 probabilities pass 1 early, so "off" must not be a comparison.
    within = (before < rows.top_p[per_row]) | (rows.top_p >= 1)[per_row]
    kept = (within & (probabilities > 0)).sum(-1, keepdim=True)
    threshold = best.gather(-1, (kept - 1).clamp_(min=0))
    return scores.masked_fill(scores < threshold, -torch.inf)


def candidates_for(params: list[GenerationParams], vocabulary: int) -> int:
    """How many candidates `filtered_scores` must look at for these requests."""
    needed = max((p.top_k or vocabulary for p in params), default=1)
    return FEW_CANDIDATES if needed <= FEW_CANDIDATES <= vocabulary else vocabulary


class TextSampler:
    """Draws one text token of one row; audio placeholders, which mean nothing as text, are never drawn."""

    def __init__(self, vocabulary: int, forbidden: tuple[int, ...], device: torch.device) -> None:
        self._counters = draw_counters(vocabulary, device)
        self._forbidden = torch.tensor(forbidden, device=device)

    def __call__(self, logits: torch.Tensor, rows: SamplerRows, step: torch.Tensor) -> torch.Tensor:
        """logits: float32 [1, V], rows and step of one row. Returns int64 [1]."""
        logits = logits.index_fill(-1, self._forbidden, -torch.inf)
        scores = filtered_scores(logits[:, None], rows, logits.shape[-1])[:, 0]
        noisy = scores + gumbel(rows.seed, step, self._counters)
        return torch.where(rows.temperature[:, None] > 0, noisy, scores).argmax(-1)
