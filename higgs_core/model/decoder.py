"""The DualFFN decoder over fused weights and a static KV cache: prefill of one slot, decode step of many.

Numerics as in the reference: RMSNorm in fp32, cast back, then times weight; cos and sin in fp32, cast; residual sums in
the model's dtype; the sampler takes logits in it and calculates in fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from transformers.models.higgs_audio_v2.modeling_higgs_audio_v2 import HiggsAudioV2RotaryEmbedding

from higgs_core.config import ModelConfig
from higgs_core.kernels.ops import Ops
from higgs_core.kernels.rope_kv import RopeTable
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import DecoderWeights, FeedForward, LayerWeights


class Decoder:
    """Shapes: B rows, L positions, H hidden, Q codebooks, Hq/Hkv heads of D, C context."""

    def __init__(self, config: ModelConfig, weights: DecoderWeights, cache: KVCache, ops: Ops) -> None:
        self.config = config
        self.weights = weights
        self.cache = cache
        self._ops = ops
        device = weights.norm.device
        rotary = HiggsAudioV2RotaryEmbedding(config.transformers).to(device)
        every_position = torch.arange(cache.context + 1, device=device)[None]
        cos, sin = rotary(weights.norm, every_position)  # [1, C + 1, D], in the model's dtype
        self._rope = RopeTable(cos[0].contiguous(), sin[0].contiguous())

    def decode_step(
        self,
        columns: torch.Tensor,  # int64 [B, Q], the input of row b of the cache
        positions: torch.Tensor,  # int64 [B], where it goes
        active: torch.Tensor,  # bool [B]; an active row attends to all positions up to its own
        max_kv_length: int,  # an upper bound of the positions that active rows attend to
    ) -> torch.Tensor:  # [B, Q, codebook_size]
        """One audio column for rows 0..B of the cache."""
        config, ops, eps = self.config, self._ops, self.config.rms_norm_eps
        residual = self._embed_columns(columns)  # [B, H]
        attend = ops.rope_attention(self._rope, positions, active, max_kv_length, config.num_kv_heads)
        for number, layer in enumerate(self.weights.layers):
            audio = layer.audio
            if audio is None:
                continue
            qkv = ops.norm_linear(residual, audio.attention_norm, eps, layer.qkv)  # [B, (Hq + 2 Hkv) D]
            attended = attend(qkv, self.cache.keys[number], self.cache.values[number])  # [B, Hq D]
            residual = ops.linear_add(attended, layer.output, residual)
            residual = ops.norm_mlp_add(residual, audio.mlp_norm, eps, audio.gate_up, audio.down)
        return self.audio_logits(residual)

    def prefill(
        self,
        slot: int,
        start: int,
        token_ids: torch.Tensor,  # int64 [L], any id at audio positions
        audio_index: torch.Tensor,  # int64 [A], which of the L positions hold columns
        text_index: torch.Tensor,  # int64 [L - A], the others
        columns: torch.Tensor,  # int64 [A, Q]
    ) -> torch.Tensor:  # [1, H], the last position before the final norm
        """Run L positions of one slot at once, from position `start` on."""
        length, eps = token_ids.shape[0], self.config.rms_norm_eps
        self.cache.mark(slot, start, length, audio_index)
        x = F.embedding(token_ids, self.weights.token_embedding)  # [L, H]
        x[audio_index] = self._embed_columns(columns)
        positions = torch.arange(start, start + length, device=x.device)
        for number, layer in enumerate(self.weights.layers):
            if layer.audio is None:
                self._run_text_only(number, layer, slot, start, x, text_index)
                continue
            rows = ((layer.text, text_index), (layer.audio, audio_index))
            normed = torch.empty_like(x)
            for part, index in rows:
                normed[index] = self._ops.rms_norm(x[index], part.attention_norm, eps)
            x = x + self._attend(number, layer, slot, normed, positions, start, visible=None)
            for part, index in rows:
                x[index] += self._mlp(part, x[index])
        return x[-1:]

    def audio_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Of the last layer's output, [B, H] before the final norm. Returns [B, Q, codebook_size]."""
        logits = self._logits(hidden, self.weights.audio_head)
        return logits.view(-1, self.config.num_codebooks, self.config.codebook_size)

    def text_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """For text tokens: float32 [B, V]. The checkpoint must have a text head."""
        assert self.weights.text_head is not None
        return self._logits(hidden, self.weights.text_head).float()

    def _logits(self, hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        return self._ops.norm_linear(hidden, self.weights.norm, self.config.rms_norm_eps, head)

    def _embed_columns(self, columns: torch.Tensor) -> torch.Tensor:
        """[B, Q] -> [B, H], the sum over the codebooks' embeddings."""
        return self._ops.embed_columns(columns, self.weights.code_embedding)

    def _mlp(self, part: FeedForward, x: torch.Tensor) -> torch.Tensor:
        """[N, H] -> [N, H], without the residual."""
        normed = self._ops.rms_norm(x, part.mlp_norm, self.config.rms_norm_eps)
        return self._ops.linear(self._ops.swiglu(self._ops.linear(normed, part.gate_up)), part.down)

    def _attend(
        self,
        number: int,
        layer: LayerWeights,
        slot: int,
        normed: torch.Tensor,  # [N, H]
        positions: torch.Tensor,  # int64 [N]
        start: int,  # position of the first query; the cache holds the positions before it
        visible: torch.Tensor | None,  # bool [N, end], positions that each query attends to; None: all up to its own
    ) -> torch.Tensor:  # [N, H], without the residual
        config = self.config
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_dim
        count = normed.shape[0]
        qkv = self._ops.linear(normed, layer.qkv).view(count, heads + 2 * kv_heads, size)
        query_key, value = qkv.split([heads + kv_heads, kv_heads], dim=1)
        cos, sin = self._rope.cos[positions][:, None], self._rope.sin[positions][:, None]  # [N, 1, D]
        first, second = query_key.chunk(2, dim=-1)
        query_key = query_key * cos + torch.cat((-second, first), dim=-1) * sin
        query, key = query_key.split([heads, kv_heads], dim=1)
        keys, values = self.cache.keys[number][slot], self.cache.values[number][slot]  # [Hkv, C + 1, D]
        keys[:, positions] = key.transpose(0, 1)
        values[:, positions] = value.transpose(0, 1)
        if visible is None and start > 0:
            end = start + count
            visible = torch.arange(end, device=normed.device) <= positions[:, None]
        query = query.transpose(0, 1)  # [Hq, N, D]
        if visible is None:
            attended = F.scaled_dot_product_attention(
                query[None], keys[None, :, :count], values[None, :, :count], is_causal=True, enable_gqa=True
            )
        else:
            # Queries of a group as positions of one head: no fused kernel on a GPU takes a mask together with
            # enable_gqa, and the unfused one holds every score in fp32.
            end = visible.shape[1]
            attended = F.scaled_dot_product_attention(
                query.reshape(1, kv_heads, -1, size),
                keys[None, :, :end],
                values[None, :, :end],
                attn_mask=visible.repeat(heads // kv_heads, 1),
            )
        attended = attended.reshape(heads, count, size).transpose(0, 1)
        return self._ops.linear(attended.reshape(count, heads * size), layer.output)

    def _run_text_only(
        self, number: int, layer: LayerWeights, slot: int, start: int, x: torch.Tensor, text_index: torch.Tensor
    ) -> None:
        """A layer that audio skips: text positions attend to text positions only, audio positions stay as they are."""
        if not text_index.shape[0]:
            return
        positions = text_index + start
        end = start + x.shape[0]
        visible = (torch.arange(end, device=x.device) <= positions[:, None]) & ~self.cache.is_audio[slot, :end]
        text = x[text_index]
        normed = self._ops.rms_norm(text, layer.text.attention_norm, self.config.rms_norm_eps)
        text = text + self._attend(number, layer, slot, normed, positions, start, visible=visible)
        x[text_index] = text + self._mlp(layer.text, text)
