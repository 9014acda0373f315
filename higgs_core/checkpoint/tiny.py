"""`tiny`: a deterministic random checkpoint of Higgs Audio v2's architecture that needs no network.

It writes a language model in Boson's format, a byte-level tokenizer with the model's control tokens and a codec, all
small enough for a laptop's CPU, and is then loaded like any other checkpoint. What it speaks is noise. Two directions
of its embeddings are set by hand, so that it always speaks some audio and stops as a trained model does.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import HiggsAudioV2TokenizerConfig, HubertConfig

from higgs_core.checkpoint.boson_config import boson_config
from higgs_core.checkpoint.byte_tokenizer import byte_tokenizer
from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from higgs_core.prompt.tokenizer import ControlTokens, HiggsTokenizer

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 64, 128, 4, 4, 2, 16
SEED = 20_25
ROPE = {
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 32.0,
        "low_freq_factor": 0.125,
        "high_freq_factor": 0.5,
        "original_max_position_embeddings": 1024,
        "rope_type": "llama3",
    },
}
"""That of the released model."""


def write_tiny(folder: Path) -> tuple[Path, Path]:
    """Write both checkpoints below `folder`; returns (language model, codec). Takes about a second."""
    model, codec = folder / "model", folder / "codec"
    model.mkdir(parents=True)
    codec.mkdir()
    _write_language_model(model)
    _write_codec(codec)
    return model, codec


def _write_language_model(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    vocabulary, control = len(tokenizer), HiggsTokenizer(tokenizer).control
    config = boson_config(
        vocabulary,
        control,
        hidden=HIDDEN,
        inner=INNER,
        layers=LAYERS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        rope=ROPE,
    )
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(_weights(vocabulary, control), folder / "model.safetensors")


def _weights(vocabulary: int, control: ControlTokens) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape: int, scale: float | None = None) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * (scale or shape[-1] ** -0.5)

    tensors = {
        "embed_tokens.weight": normal(vocabulary, HIDDEN, scale=1.0),
        "audio_codebook_embeddings.weight": normal(8 * 1026, HIDDEN, scale=0.35),
        "norm.weight": torch.ones(HIDDEN),
        "audio_decoder_proj.audio_lm_head.weight": normal(8 * 1026, HIDDEN),
        "audio_decoder_proj.text_lm_head.weight": normal(vocabulary, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"layers.{layer}."
        tensors |= {
            prefix + "self_attn.q_proj.weight": normal(HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.k_proj.weight": normal(KV_HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.v_proj.weight": normal(KV_HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.o_proj.weight": normal(HIDDEN, HEADS * HEAD_DIM, scale=0.05),
        }
        for part in ("", "audio_"):
            tensors |= {
                f"{prefix}{part}input_layernorm.weight": torch.ones(HIDDEN),
                f"{prefix}{part}post_attention_layernorm.weight": torch.ones(HIDDEN),
                f"{prefix}{part}mlp.gate_proj.weight": normal(INNER, HIDDEN),
                f"{prefix}{part}mlp.up_proj.weight": normal(INNER, HIDDEN),
                f"{prefix}{part}mlp.down_proj.weight": normal(HIDDEN, INNER, scale=0.05),
            }
    _make_it_stop(tensors, control)
    _make_it_speak(tensors)
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def _make_it_stop(tensors: dict[str, torch.Tensor], control: ControlTokens) -> None:
    """After `<|audio_eos|>` the text head answers `<|eot_id|>`."""
    direction = torch.nn.functional.normalize(tensors["embed_tokens.weight"][control.audio_eos], dim=0)
    tensors["embed_tokens.weight"][control.audio_eos] = 16 * direction
    tensors["audio_decoder_proj.text_lm_head.weight"][control.end_of_turn] = 4 * direction


def _make_it_speak(tensors: dict[str, torch.Tensor]) -> None:
    """No end of audio while a column still holds the BOS of the delay pattern: a segment has a frame at least.

    The BOS codes alone reach into a direction of the hidden state that nothing else writes, and along which the audio
    head's EOS rows are far below every other.
    """
    direction = torch.zeros(HIDDEN)
    direction[-1] = 1.0
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor[-1] = 0.0  # what the layers add
        elif "embed" in name or name.endswith("lm_head.weight"):
            tensor[:, -1] = 0.0
    tensors["audio_codebook_embeddings.weight"].view(8, 1026, HIDDEN)[:, 1024] += 4 * direction
    tensors["audio_decoder_proj.audio_lm_head.weight"].view(8, 1026, HIDDEN)[:, 1025] -= 100 * direction


def _write_codec(folder: Path) -> None:
    config = HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        codebook_size=1024,
        codebook_dim=16,
        acoustic_model_config={
            "model_type": "dac",
            "encoder_hidden_size": 4,
            "decoder_hidden_size": 64,
            "downsampling_ratios": [8, 5, 4, 2, 3],
            "upsampling_ratios": [8, 5, 4, 2, 3],
            "hidden_size": 32,
        },
        semantic_model_config=HubertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            conv_dim=[16] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            do_stable_layer_norm=False,
            mask_time_prob=0.0,
        ),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = HiggsAudioV2TokenizerModel(config).eval()
        for name, buffer in model.named_buffers():
            if name.endswith("codebook.embed"):
                torch.nn.init.normal_(buffer)  # zeros by default, with which all codes would decode to the same audio
        model.acoustic_decoder.conv2.weight.data.mul_(8)  # so that the output is loud enough to count as sound
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    config.save_pretrained(folder)
