"""Prefill: positions of several slots through the layers at once, for the keys and values that they leave in the cache.

Nothing is read out: the last token of a prompt, or the column behind it, is the first input of a step. So the last
layer ends with its keys and values. Index tensors, rotation and masks are made once for all layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
import torch.nn.functional as F

from higgs_core.config import ModelConfig
from higgs_core.kernels.attention.rope_kv import RopeTable, rotation
from higgs_core.kernels.ops import Ops
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PrefillRows, SpanRows
from higgs_core.model.weights import DecoderWeights, FeedForward, LayerWeights

_MASK_ALIGNMENT = 8  # elements between rows; an attention kernel that takes a mask copies one of any other stride


@dataclass(frozen=True, eq=False)
class _Attention:
    """What the attention of N rows needs in every layer.

    masks: of each span, [n, end] in the model's dtype; None where each of its positions attends to all up to its own
    and the cache holds none before them.
    """

    slots: torch.Tensor  # int64 [N]
    positions: torch.Tensor  # int64 [N]
    factors: tuple[torch.Tensor, torch.Tensor]  # of `rotation`, [N, 1, D]
    spans: tuple[SpanRows, ...]
    masks: tuple[torch.Tensor | None, ...]
    in_order: torch.Tensor | None = None
    position_of: torch.Tensor | None = None


class PrefillPass:
    """H hidden, Hq/Hkv heads of D; N rows of a prefill, n of one span."""

    def __init__(
        self, config: ModelConfig, weights: DecoderWeights, cache: KVCache, ops: Ops, table: RopeTable
    ) -> None:
        self._config, self._weights, self._cache, self._ops, self._table = config, weights, cache, ops, table

    def __call__(self, rows: PrefillRows) -> None:
        """Write the keys and values of every row's position, all layers."""
        x = self._embedded(rows)  # [N, H]
        texts = rows.token_ids.shape[0]
        text, audio = x[:texts], x[texts:]
        attention = self._attention(rows)
        text_only = self._text_only_attention(rows, attention) if self._config.has_skip_layers else attention
        last = len(self._weights.layers) - 1
        for number, layer in enumerate(self._weights.layers):
            if layer.audio is None:
                # Text attends to text alone, and audio stays as it is.
                parts, residual, view = [(layer.text, text)], text, text_only
            elif layer.audio is layer.text:
                parts, residual, view = [(layer.text, x)], x, attention
            else:
                parts, residual, view = [(layer.text, text), (layer.audio, audio)], x, attention
            parts = [(part, half) for part, half in parts if half.shape[0]]
            if not parts:
                continue
            normed = [self._ops.rms_norm(half, part.attention_norm, self._config.rms_norm_eps) for part, half in parts]
            query = self._write(number, layer, normed[0] if len(normed) == 1 else torch.cat(normed), view)
            if number == last:
                return
            residual.add_(self._ops.linear(self._attended(number, query, view), layer.output))
            for part, half in parts:
                self._add_mlp(part, half)

    def _embedded(self, rows: PrefillRows) -> torch.Tensor:
        halves = []
        if rows.token_ids.shape[0]:
            halves.append(F.embedding(rows.token_ids, self._weights.token_embedding))
        if rows.columns.shape[0]:
            halves.append(self._ops.embed_columns(rows.columns, self._weights.code_embedding))
        return halves[0] if len(halves) == 1 else torch.cat(halves)

    def _attention(self, rows: PrefillRows) -> _Attention:
        if self._cache.is_audio is not None:
            texts = rows.token_ids.shape[0]
            is_audio = torch.zeros_like(rows.slots, dtype=torch.bool)
            is_audio[texts:].fill_(True)
            self._cache.is_audio[rows.slots, rows.positions] = is_audio
        return _Attention(
            rows.slots,
            rows.positions,
            rotation(self._table.cos[rows.positions], self._table.sin[rows.positions]),
            rows.spans,
            tuple(self._causal_mask(span) if span.start else None for span in rows.spans),
            rows.in_order,
            rows.position_of,
        )

    def _text_only_attention(self, rows: PrefillRows, attention: _Attention) -> _Attention:
        texts = rows.token_ids.shape[0]
        straight, swapped = attention.factors
        masks = []
        for span in rows.text_spans:
            assert self._cache.is_audio is not None
            positions = rows.positions[span.first : span.stop, None]
            visible = torch.arange(span.end, device=positions.device) <= positions
            masks.append(self._mask(visible & ~self._cache.is_audio[span.slot, : span.end]))
        return _Attention(
            rows.slots[:texts],
            rows.positions[:texts],
            (straight[:texts], swapped[:texts]),
            rows.text_spans,
            tuple(masks),
        )

    def _causal_mask(self, span: SpanRows) -> torch.Tensor:
        places = torch.arange(span.end, device=self._table.cos.device)
        return self._mask(places <= places[span.start :, None])

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        """bool [n, end] -> what is added to the scores, [n, end]."""
        count, end = visible.shape
        width = -(-end // _MASK_ALIGNMENT) * _MASK_ALIGNMENT
        mask = self._table.cos.new_zeros(count, width)[:, :end]
        return mask.masked_fill_(~visible, -inf)

    def _write(self, number: int, layer: LayerWeights, normed: torch.Tensor, attention: _Attention) -> torch.Tensor:
        """Keys and values of normed [N, H] into the cache. Returns the rotated queries [N, Hq, D]."""
        heads, kv_heads, size = self._config.num_heads, self._config.num_kv_heads, self._config.head_dim
        every = self._ops.linear(normed, layer.qkv).view(-1, heads + 2 * kv_heads, size)
        rotating = every[:, : heads + kv_heads]
        of_straight, of_swapped = attention.factors
        swapped = rotating.roll(size // 2, -1).mul_(of_swapped)
        torch.addcmul(swapped, rotating, of_straight, out=rotating)  # keys turn where they lie, beside their values
        written = every[:, heads:].unflatten(1, (2, kv_heads))  # [N, 2, Hkv, D]
        self._cache.both[number][:, attention.slots, :, attention.positions] = written
        return every[:, :heads]

    def _attended(self, number: int, query: torch.Tensor, attention: _Attention) -> torch.Tensor:
        """query: [N, Hq, D]. Returns [N, Hq D]."""
        if attention.in_order is not None:
            query = query.index_select(0, attention.in_order)
        found = [
            self._attend_span(number, query, span, mask)
            for span, mask in zip(attention.spans, attention.masks, strict=True)
        ]
        attended = found[0] if len(found) == 1 else torch.cat(found)
        return attended if attention.position_of is None else attended.index_select(0, attention.position_of)

    def _attend_span(self, number: int, query: torch.Tensor, span: SpanRows, mask: torch.Tensor | None) -> torch.Tensor:
        """query: [N, Hq, D] in the order of the positions. Returns [n, Hq D], of the span's rows."""
        _, heads, size = query.shape
        count, end, kv_heads = span.stop - span.first, span.end, self._config.num_kv_heads
        group = heads // kv_heads
        caches = self._cache.keys[number], self._cache.values[number]  # [S, Hkv, C + 1, D]
        slot, head, place, _ = caches[0].stride()
        row, query_head, _ = query.stride()
        # as_strided takes one call where slices and transpositions take four.
        if mask is None:
            query_view = (1, heads, count, size), (row, query_head, row, 1)
            cache_view = (1, kv_heads, end, size), (slot, head, place, 1)
        else:
            # The KV heads as the batch: no fused kernel on a GPU takes a mask together with enable_gqa, and the unfused
            # one holds every score in fp32.
            query_view = (kv_heads, group, count, size), (group * query_head, query_head, row, 1)
            cache_view = (kv_heads, group, end, size), (head, 0, place, 1)
        keys, values = (c.as_strided(*cache_view, c.storage_offset() + span.slot * slot) for c in caches)
        found = F.scaled_dot_product_attention(
            query.as_strided(*query_view, query.storage_offset() + span.first * row),
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=mask is None,
        )
        in_order = found.transpose(1, 2) if mask is None else found.permute(2, 0, 1, 3)
        return in_order.reshape(count, heads * size)

    def _add_mlp(self, part: FeedForward, x: torch.Tensor) -> None:
        """Add the MLP of x [N, H] to it."""
        ops, eps = self._ops, self._config.rms_norm_eps
        normed = ops.rms_norm(x, part.mlp_norm, eps)
        x.add_(ops.linear(ops.swiglu(ops.linear(normed, part.gate_up)), part.down))
