"""The decoder's weights in fused layout: q, k and v in one matrix, gate and up in one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.config import ModelConfig


@dataclass(frozen=True, eq=False)
class FeedForward:
    """One MLP with the norm before it and the norm before attention that goes with it."""

    attention_norm: torch.Tensor  # [H]
    mlp_norm: torch.Tensor  # [H]
    gate_up: torch.Tensor  # [2 I, H], gate first
    down: torch.Tensor  # [H, I]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Text and audio share the attention weights. `audio` is None where audio skips the layer, and the same object as
    `text` where they share the MLP."""

    qkv: torch.Tensor  # [(Hq + 2 Hkv) D, H]
    output: torch.Tensor  # [H, Hq D]
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
    def nbytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    @property
    def audio_step_nbytes(self) -> int:
        """Bytes that one audio decode step reads: no text MLPs, no text head, and only a few rows of the embeddings."""
        tensors = [self.norm, self.audio_head]
        for layer in self.layers:
            if layer.audio is not None:
                tensors += [layer.qkv, layer.output, layer.audio.gate_up, layer.audio.down]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _tensors(self) -> list[torch.Tensor]:
        found = [self.token_embedding, self.code_embedding, self.norm, self.audio_head]
        found += [self.text_head] if self.text_head is not None else []
        for layer in self.layers:
            found += [layer.qkv, layer.output, *vars(layer.text).values()]
            if layer.audio is not None and layer.audio is not layer.text:
                found += vars(layer.audio).values()
        return found


def allocate(config: ModelConfig, device: torch.device, dtype: torch.dtype, *, text_head: bool) -> DecoderWeights:
    """Uninitialised weights of the given architecture."""
    hidden, inner = config.hidden_size, config.intermediate_size

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=device, dtype=dtype)

    def feed_forward() -> FeedForward:
        return FeedForward(empty(hidden), empty(hidden), empty(2 * inner, hidden), empty(hidden, inner))

    layers = []
    for path in config.audio_paths:
        text = feed_forward()
        audio = feed_forward() if path == "dual" else text if path == "shared" else None
        layers.append(
            LayerWeights(empty(config.qkv_size, hidden), empty(hidden, config.num_heads * config.head_dim), text, audio)
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


def destinations(weights: DecoderWeights, config: ModelConfig) -> dict[str, torch.Tensor]:
    """Canonical tensor name -> the contiguous block of the fused layout that it fills."""
    table = {
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
        query, key, value = torch.split(layer.qkv, [config.num_heads * config.head_dim, kv, kv])
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


def _feed_forward_names(prefix: str, part: FeedForward) -> dict[str, torch.Tensor]:
    gate, up = part.gate_up.chunk(2)
    return {
        prefix + "input_layernorm.weight": part.attention_norm,
        prefix + "post_attention_layernorm.weight": part.mlp_norm,
        prefix + "mlp.gate_proj.weight": gate,
        prefix + "mlp.up_proj.weight": up,
        prefix + "mlp.down_proj.weight": part.down,
    }
