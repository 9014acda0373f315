"""transformers' own Higgs Audio v2 over the engine's weights: the oracle of the tests, the other side of benchmarks."""

from __future__ import annotations

import copy

import torch
from transformers import HiggsAudioV2ForConditionalGeneration
from transformers.models.higgs_audio_v2.modeling_higgs_audio_v2 import HiggsAudioV2RotaryEmbedding

from higgs_core.build import EngineParts
from higgs_core.codec.clip_encoder import ClipEncoder
from higgs_core.config import ModelConfig
from higgs_core.kernels.linear.quantized_weight import dense
from higgs_core.model.weights import DecoderWeights, destinations
from higgs_core.prompt.chatml import ChatMLSample
from higgs_core.prompt.layout import Prompt, build_prompt


def transformers_twin(
    config: ModelConfig, weights: DecoderWeights, *, delay_token: int | None = None
) -> HiggsAudioV2ForConditionalGeneration:
    """transformers' model on views of `weights`: the same memory, so a full-size twin costs nothing.

    Quantised matrices are copied in the model's dtype.
    delay_token: its second placeholder id, which it treats as audio too; None keeps the config's.
    """
    theirs = copy.deepcopy(config.transformers)
    if delay_token is not None:
        theirs.audio_delay_token_id = delay_token
    with torch.device("meta"):
        model = HiggsAudioV2ForConditionalGeneration(theirs, use_text_head=weights.text_head is not None)
    dtype = weights.norm.dtype
    table = {_transformers_name(name): dense(weight, dtype) for name, weight in destinations(weights, config).items()}
    model.load_state_dict(table, assign=True)
    device = weights.norm.device
    offsets = torch.arange(config.num_codebooks, device=device) * config.codebook_size
    model.model.embed_audio_tokens.audio_tokens_offsets = offsets
    model.model.rotary_emb = HiggsAudioV2RotaryEmbedding(theirs).to(device)
    return model.eval().requires_grad_(False)


def prompt_of(parts: EngineParts, sample: ChatMLSample) -> Prompt:
    """The engine's own prompt of a sample whose clips are given as codes."""
    clips = ClipEncoder(None, parts.config.num_codebooks, parts.config.stream_bos - 1)
    return build_prompt(sample, parts.tokenizer, parts.config, clips, force_audio=True)


def prompt_inputs(prompt: Prompt, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """The engine's prompt as transformers takes it: expanded ids [1, L] and columns [1, A, Q]."""
    inputs = {"input_ids": prompt.positions[None], "attention_mask": torch.ones(1, prompt.length, dtype=torch.long)}
    if prompt.columns.shape[1]:
        inputs["audio_input_ids"] = prompt.columns.T[None].contiguous()
        inputs["audio_input_ids_mask"] = torch.ones(1, prompt.columns.shape[1], dtype=torch.bool)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _transformers_name(name: str) -> str:
    if name == "embed_audio_tokens.weight":
        return "model.embed_audio_tokens.embed_audio_tokens.weight"
    return name if name.endswith("_lm_head.weight") else "model." + name
