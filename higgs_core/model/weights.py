"""The decoder's weights in fused layout: q, k and v in one matrix, gate and up in one matrix.

The matrices of the layers may be quantised. Embeddings, norms and heads stay in the model's dtype: a step reads little
of them, and the logits are what the sampler takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from higgs_core.config import ModelConfig
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight, quantize, split_rows


@dataclass(frozen=True, eq=False)
class FeedForward:
    """One MLP with the norm before it and the norm before attention that goes with it."""

    attention_norm: torch.Tensor  # [H]
    mlp_norm: torch.Tensor  # [H]
    gate_up: Weight  # [2 I, H], gate first
    down: Weight  # [H, I]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Text and audio share the attention weights. `audio` is None where audio skips the layer, and the same object as
    `text` where they share the MLP."""

    qkv: Weight  # [(Hq + 2 Hkv) D, H]
    output: Weight  # [H, Hq D]
    text: FeedForward
    audio: FeedForward | None


@dataclass(frozen=True, eq=False)
class DecoderWeights:
    token_embedding: torch.Tensor  # [V, H]
    code_embedding: torch.Tensor  # [Q codebook_size, H]
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor  # [H]
    audio_head: torch.Tensor  # [Q codebook_size, H]
    text_head: torch.Tensor | None  # [V, H]

    @property
    def kind(self) -> str | None:
        """Of the layers' matrices: a key of `VALUE_DTYPES`, or None where they have the model's dtype."""
        qkv = self.layers[0].qkv
        return qkv.kind if isinstance(qkv, QuantizedWeight) else None

    @property
    def nbytes(self) -> int:
        return sum(weight.nbytes for weight in self._weights())

    @property
    def audio_step_nbytes(self) -> int:
        """Bytes that one audio decode step reads: no text MLPs, no text head, and only a few rows of the embeddings."""
        weights: list[Weight] = [self.norm, self.audio_head]
        for layer in self.layers:
            if layer.audio is not None:
                weights += [layer.qkv, layer.output, layer.audio.gate_up, layer.audio.down]
        return sum(weight.nbytes for weight in weights)

    @property
    def largest_dense_nbytes(self) -> int:
        """Bytes of the largest quantised matrix in the model's dtype, as torch's products need it; 0 without one."""
        quantized = (weight for weight in self._weights() if isinstance(weight, QuantizedWeight))
        return max((weight.values.numel() * self.norm.element_size() for weight in quantized), default=0)

    def _weights(self) -> list[Weight]:
        found: list[Weight] = [self.token_embedding, self.code_embedding, self.norm, self.audio_head]
        found += [self.text_head] if self.text_head is not None else []
        for layer in self.layers:
            found += [layer.qkv, layer.output, *vars(layer.text).values()]
            if layer.audio is not None and layer.audio is not layer.text:
                found += vars(layer.audio).values()
        return found


def allocate(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, *, text_head: bool, kind: str | None = None
) -> DecoderWeights:
    """Uninitialised weights of the given architecture. kind: as `DecoderWeights.kind`."""
    hidden, inner = config.hidden_size, config.intermediate_size

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=device, dtype=dtype)

    def matrix(outputs: int, inputs: int) -> Weight:
        return empty(outputs, inputs) if kind is None else QuantizedWeight.empty(outputs, inputs, kind, device)

    def feed_forward() -> FeedForward:
        return FeedForward(empty(hidden), empty(hidden), matrix(2 * inner, hidden), matrix(hidden, inner))

    layers = []
    for path in config.audio_paths:
        text = feed_forward()
        audio = feed_forward() if path == "dual" else text if path == "shared" else None
        layers.append(
            LayerWeights(
                matrix(config.qkv_size, hidden), matrix(hidden, config.num_heads * config.head_dim), text, audio
            )
        )
    codes = config.num_codebooks * config.codebook_size
    return DecoderWeights(
        token_embedding=empty(config.vocab_size, hidden),
        code_embedding=empty(codes, hidden),
        layers=tuple(layers),
        norm=empty(hidden),
        audio_head=empty(codes, hidden),
        text_head=empty(config.vocab_size, hidden) if text_head else None,
    )


def quantized(weights: DecoderWeights, kind: str) -> DecoderWeights:
    """The same weights with the layers' matrices, in the model's dtype so far, quantised; the rest is shared.

    For weights in memory. `load_model` quantises while it reads. Raises ValueError for weights that are not finite.
    """

    def matrix(weight: Weight) -> Weight:
        assert isinstance(weight, torch.Tensor), "a weight is quantised once"
        return quantize(weight, kind)

    def feed_forward(part: FeedForward) -> FeedForward:
        return replace(part, gate_up=matrix(part.gate_up), down=matrix(part.down))

    layers = []
    for layer in weights.layers:
        text = feed_forward(layer.text)
        audio = text if layer.audio is layer.text else layer.audio and feed_forward(layer.audio)
        layers.append(LayerWeights(matrix(layer.qkv), matrix(layer.output), text, audio))
    return replace(weights, layers=tuple(layers))


def destinations(weights: DecoderWeights, config: ModelConfig) -> dict[str, Weight]:
    """Canonical tensor name -> the contiguous block of the fused layout that it fills."""
    table: dict[str, Weight] = {
        "embed_tokens.weight": weights.token_embedding,
        "embed_audio_tokens.weight": weights.code_embedding,
        "norm.weight": weights.norm,
        "audio_lm_head.weight": weights.audio_head,
    }
    if weights.text_head is not None:
        table["text_lm_head.weight"] = weights.text_head
    kv = config.num_kv_heads * config.head_dim
    for number, layer in enumerate(weights.layers):
        prefix = f"layers.{number}."
        query, key, value = split_rows(layer.qkv, [config.num_heads * config.head_dim, kv, kv])
        table |= {
            prefix + "self_attn.q_proj.weight": query,
            prefix + "self_attn.k_proj.weight": key,
            prefix + "self_attn.v_proj.weight": value,
            prefix + "self_attn.o_proj.weight": layer.output,
        }
        table |= _feed_forward_names(prefix, layer.text)
        if layer.audio is not None and layer.audio is not layer.text:
            table |= _feed_forward_names(prefix + "audio_", layer.audio)
    return table


def _feed_forward_names(prefix: str, part: FeedForward) -> dict[str, Weight]:
    inner = part.gate_up.shape[0] // 2
    gate, up = split_rows(part.gate_up, [inner, inner])
    return {
        prefix + "input_layernorm.weight": part.attention_norm,
        prefix + "post_attention_layernorm.weight": part.mlp_norm,
        prefix + "mlp.gate_proj.weight": gate,
        prefix + "mlp.up_proj.weight": up,
        prefix + "mlp.down_proj.weight": part.down,
    }
