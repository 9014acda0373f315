"""The DualFFN decoder over fused weights and a static KV cache: prefill of prompts, and steps of one position a row.

Numerics as in the reference: RMSNorm in fp32, cast back, then times weight; cos and sin in fp32, cast; residual sums in
the model's dtype; the sampler takes logits in it and calculates in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
import torch.nn.functional as F
from transformers.models.higgs_audio_v2.modeling_higgs_audio_v2 import HiggsAudioV2RotaryEmbedding

from higgs_core.config import ModelConfig
from higgs_core.kernels.attention.decode_attention import decode_attention
from higgs_core.kernels.attention.rope_attention import LayerAttention
from higgs_core.kernels.attention.rope_kv import RopeTable, rope_kv_write, rotation
from higgs_core.kernels.ops import Ops
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prefill import PrefillPass
from higgs_core.model.prompt_span import PromptSpan, lay_out
from higgs_core.model.weights import DecoderWeights, FeedForward, LayerWeights


class Decoder:
    """Shapes: B rows, H hidden, Q codebooks, V vocabulary, Hq/Hkv heads of D, C context."""

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
        self._prefill = PrefillPass(config, weights, cache, ops, self._rope)

    def prefill(self, spans: Sequence[PromptSpan]) -> None:
        """Fill the cache with positions of one or several slots. Nobody's are changed by who else is there."""
        self._prefill(lay_out(spans, self.weights.norm.device))

    def decode_step(
        self,
        columns: torch.Tensor,  # int64 [B, Q], the input of row b of the cache
        positions: torch.Tensor,  # int64 [B], where it goes
        active: torch.Tensor,  # bool [B]; an active row attends to all positions up to its own
        max_kv_length: int,  # an upper bound of the positions that active rows attend to
    ) -> torch.Tensor:  # [B, Q, codebook_size]
        """One audio column for rows 0..B of the cache."""
        residual = self._ops.embed_columns(columns, self.weights.code_embedding)  # [B, H]
        attend = self._attention(positions, active, max_kv_length)
        for number, layer in enumerate(self.weights.layers):
            if layer.audio is not None:
                residual = self._run_layer(number, layer, layer.audio, residual, attend)
        return self.audio_logits(residual)

    def text_step(
        self,
        tokens: torch.Tensor,  # int64 [B], the input of row b of the cache
        positions: torch.Tensor,  # int64 [B]
        active: torch.Tensor,  # bool [B]
        max_kv_length: int,
        lanes: torch.Tensor,  # int64 [T], the rows whose logits are wanted
    ) -> torch.Tensor:  # float32 [T, V]
        """One text token for rows 0..B of the cache; arguments as for `decode_step`. Needs a text head."""
        residual = F.embedding(tokens, self.weights.token_embedding)  # [B, H]
        attend = self._attention(positions, active, max_kv_length)
        attend_text = self._text_only_attention(positions, active, max_kv_length) or attend
        for number, layer in enumerate(self.weights.layers):
            view = attend_text if layer.audio is None else attend
            residual = self._run_layer(number, layer, layer.text, residual, view)
        return self.text_logits(residual[lanes])

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

    def _run_layer(
        self, number: int, layer: LayerWeights, part: FeedForward, residual: torch.Tensor, attend: LayerAttention
    ) -> torch.Tensor:
        """residual: [B, H], overwritten. Returns [B, H]."""
        ops, eps = self._ops, self.config.rms_norm_eps
        qkv = ops.norm_linear(residual, part.attention_norm, eps, layer.qkv)  # [B, (Hq + 2 Hkv) D]
        attended = attend(qkv, self.cache.keys[number], self.cache.values[number])  # [B, Hq D]
        residual = ops.linear_add(attended, layer.output, residual)
        return ops.norm_mlp_add(residual, part.mlp_norm, eps, part.gate_up, part.down)

    def _attention(self, positions: torch.Tensor, active: torch.Tensor, max_kv_length: int) -> LayerAttention:
        return self._ops.rope_attention(self._rope, positions, active, max_kv_length, self.config.num_kv_heads)

    def _text_only_attention(
        self, positions: torch.Tensor, active: torch.Tensor, max_kv_length: int
    ) -> LayerAttention | None:
        """The attention of layers that audio skips: to text alone. None where there are none."""
        if self.cache.is_audio is None:
            return None
        is_audio = self.cache.is_audio[: positions.shape[0]]
        is_audio.scatter_(1, positions[:, None], False)
        later = torch.arange(max_kv_length, device=positions.device) > positions[:, None]
        unseen = (later | is_audio[:, :max_kv_length]) & active[:, None]  # [B, max_kv_length]
        mask = torch.zeros_like(unseen, dtype=self._rope.cos.dtype).masked_fill_(unseen, -inf)
        mask = mask[:, None, None].expand(-1, self.config.num_kv_heads, -1, -1).contiguous()
        factors = rotation(self._rope.cos[positions], self._rope.sin[positions])

        def attend(qkv: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor) -> torch.Tensor:
            return decode_attention(rope_kv_write(qkv, factors, k_cache, v_cache, positions), k_cache, v_cache, mask)

        return attend
