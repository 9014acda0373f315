"""The sampler of a CPU: as `Sampler`, with noise for the few best tokens only.

It looks at values on the way, which costs nothing on a CPU and would make the host wait for a GPU.
"""

from __future__ import annotations

import torch

from higgs_core.sampling.noise import draw_counters, gumbel
from higgs_core.sampling.sampler import Sampler, SamplerRows, top_k_top_p_threshold


class CandidateSampler:
    """Draws the tokens that `Sampler` draws, whose signature it has."""

    def __init__(self, num_codebooks: int, codebook_size: int, device: torch.device) -> None:
        self._whole = Sampler(num_codebooks, codebook_size, device)
        self._counters = draw_counters(2 * num_codebooks * codebook_size, device).view(2, num_codebooks, codebook_size)

    def __call__(
        self,
        logits: torch.Tensor,  # float32 [B, Q, V]
        window: torch.Tensor,  # int64 [B, W, Q], oldest column first, -1 where there is none
        rows: SamplerRows,
        step: torch.Tensor,  # int64 [B]
        max_top_k: int,
    ) -> torch.Tensor:  # int64 [B, Q]
        (count, codebooks, vocabulary) = logits.shape
        if max_top_k >= vocabulary:
            return self._whole(logits, window, rows, step, max_top_k)
        best, tokens = logits.topk(max_top_k, dim=-1)  # [B, Q, K], descending
        sampled = rows.temperature > 0
        scores = best / torch.where(sampled, rows.temperature, 1.0)[:, None, None]
        threshold = top_k_top_p_threshold(scores, rows)
        if (scores[..., -1:] >= threshold).any():  # tokens beyond the candidates may be tied with the last kept one
            return self._whole(logits, window, rows, step, max_top_k)
        counters = self._counters[0].gather(1, tokens.transpose(0, 1).flatten(1))  # [Q, B K]
        counters = counters.view(codebooks, count, max_top_k).transpose(0, 1).flatten(1)  # [B, Q K]
        noise = gumbel(rows.seed, step, counters).view_as(scores)
        scores = torch.where(sampled[:, None, None], scores + noise, scores).masked_fill_(
            scores < threshold, -torch.inf
        )
        # Among equals the lowest token, as argmax over the whole vocabulary takes.
        behind = scores < scores.amax(-1, keepdim=True)
        drawn = tokens.masked_fill(behind, vocabulary).amin(-1)
        return self._with_ras(drawn, logits, window, rows, step)

    def _with_ras(
        self,
        drawn: torch.Tensor,  # int64 [B, Q]
        logits: torch.Tensor,
        window: torch.Tensor,
        rows: SamplerRows,
        step: torch.Tensor,
    ) -> torch.Tensor:  # int64 [B, Q]
        """Draw again, from the raw logits, what is too frequent in the recent columns."""
        row, codebook = self._whole.too_frequent(drawn, window, rows).nonzero(as_tuple=True)
        if row.shape[0]:
            noise = gumbel(rows.seed[row], step[row], self._counters[1, codebook])  # [n, V]
            drawn[row, codebook] = (logits[row, codebook] + noise).argmax(-1)
        return drawn
