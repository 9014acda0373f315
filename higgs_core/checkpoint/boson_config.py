"""`config.json` in Boson's format, for the built-in checkpoints."""

from __future__ import annotations

from typing import Any

from higgs_core.prompt.tokenizer import ControlTokens

CODEBOOKS = 8
CODES = 1024
"""Of a codebook, without the stream's BOS and EOS, which follow them."""


def boson_config(
    vocabulary: int,
    control: ControlTokens,
    *,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rope: dict[str, Any],
) -> dict[str, Any]:
    """A model of these sizes with both MLPs in every layer. rope: `rope_theta` and, where wanted, `rope_scaling`."""
    return {
        "model_type": "higgs_audio",
        "architectures": ["HiggsAudioModel"],
        "audio_adapter_type": "dual_ffn_fast_forward",
        "audio_dual_ffn_layers": list(range(layers)),
        "audio_num_codebooks": CODEBOOKS,
        "audio_codebook_size": CODES,
        "audio_stream_bos_id": CODES,
        "audio_stream_eos_id": CODES + 1,
        "audio_in_token_idx": control.audio_in,
        "audio_out_token_idx": control.audio_out,
        "audio_out_bos_token_id": control.audio_out_bos,
        "audio_eos_token_id": control.audio_eos,
        "pad_token_id": control.end_of_turn,
        "torch_dtype": "bfloat16",
        "use_delay_pattern": True,
        "text_config": {
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            **rope,
            "eos_token_id": control.end_of_turn,
        },
    }
