"""The architecture of a checkpoint, read from either `config.json` format into transformers' own config class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from transformers.models.higgs_audio_v2.configuration_higgs_audio_v2 import HiggsAudioV2Config

from higgs_core.errors import ModelLoadError
from higgs_core.text.speech_length import MAX_PIECE_WORDS

BOSON_MODEL_TYPE = "higgs_audio"
TRANSFORMERS_MODEL_TYPE = "higgs_audio_v2"

AudioPath = Literal["dual", "shared", "skip"]
"""What an audio column runs in a layer: its own MLP and norms, those of text, or nothing (Boson's fast-forward)."""


@dataclass(frozen=True)
class ModelConfig:
    """Shapes and ids that the engine needs; `transformers` holds the rest, such as RoPE's parameters and the dtype.

    max_piece_words: the most words that the model speaks well in one generation; 1 to MAX_PIECE_WORDS.
    """

    transformers: HiggsAudioV2Config
    audio_paths: tuple[AudioPath, ...]
    eos_token_ids: tuple[int, ...]
    max_piece_words: int = MAX_PIECE_WORDS

    @property
    def hidden_size(self) -> int:
        return self.transformers.hidden_size

    @property
    def intermediate_size(self) -> int:
        return self.transformers.intermediate_size

    @property
    def num_layers(self) -> int:
        return self.transformers.num_hidden_layers

    @property
    def num_heads(self) -> int:
        return self.transformers.num_attention_heads

    @property
    def num_kv_heads(self) -> int:
        return self.transformers.num_key_value_heads

    @property
    def head_dim(self) -> int:
        return self.transformers.head_dim or self.hidden_size // self.num_heads

    @property
    def qkv_size(self) -> int:
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def rms_norm_eps(self) -> float:
        return self.transformers.rms_norm_eps

    @property
    def vocab_size(self) -> int:
        return self.transformers.vocab_size

    @property
    def num_codebooks(self) -> int:
        return self.transformers.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Entries a codebook has in the language model: the codec's 1024 plus stream BOS and stream EOS."""
        return self.transformers.codebook_size

    @property
    def stream_bos(self) -> int:
        return self.transformers.audio_stream_bos_id

    @property
    def stream_eos(self) -> int:
        return self.transformers.audio_stream_eos_id

    @property
    def has_skip_layers(self) -> bool:
        return "skip" in self.audio_paths


def read_config(raw: dict[str, Any], generation: dict[str, Any] | None = None) -> ModelConfig:
    """`config.json` (and `generation_config.json`, when there is one) as a ModelConfig.

    Of the latter `eos_token_id` is read, and `max_piece_words`: a model that was trained on shorter pieces than
    Higgs Audio v2 states there how many words of a long text it speaks in one generation.
    Raises ModelLoadError for another model type, for options of the architecture that change its mathematics and that
    no released checkpoint uses, and for a max_piece_words that is out of range.
    """
    generation = generation or {}
    model_type = raw.get("model_type")
    if model_type == BOSON_MODEL_TYPE:
        config, audio_paths = _from_boson(raw)
    elif model_type == TRANSFORMERS_MODEL_TYPE:
        config = HiggsAudioV2Config.from_dict(raw)
        audio_paths = _audio_paths({}, config.num_hidden_layers)
    else:
        raise ModelLoadError(
            f"model_type is {model_type!r}; allowed is {BOSON_MODEL_TYPE!r} (Boson's format) or "
            f"{TRANSFORMERS_MODEL_TYPE!r} (transformers' format)."
        )
    if config.hidden_act != "silu" or config.attention_bias or config.mlp_bias:
        raise ModelLoadError("The checkpoint uses biases or an activation other than silu; Higgs Audio v2 has neither.")
    if config.codebook_size <= config.audio_stream_eos_id:
        # Boson counts the codec's entries, transformers' released files count the two stream tokens in.
        config.codebook_size = config.audio_stream_eos_id + 1
    eos = generation.get("eos_token_id", config.eos_token_id)
    eos_token_ids = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    return ModelConfig(config, audio_paths, eos_token_ids, _max_piece_words(generation))


def _max_piece_words(generation: dict[str, Any]) -> int:
    words = generation.get("max_piece_words", MAX_PIECE_WORDS)
    if type(words) is not int or not 1 <= words <= MAX_PIECE_WORDS:
        raise ModelLoadError(
            f"generation_config.json sets max_piece_words to {words!r}; allowed is a whole number from 1 to "
            f"{MAX_PIECE_WORDS}."
        )
    return words


def _from_boson(raw: dict[str, Any]) -> tuple[HiggsAudioV2Config, tuple[AudioPath, ...]]:
    unsupported = {
        "use_audio_out_self_attention": False,
        "use_audio_out_embed_projector": False,
        "use_rq_transformer": False,
        "encode_whisper_embed": False,
        "audio_embed_avg": False,
        "audio_decoder_proj_num_layers": 0,
        "use_delay_pattern": True,
    }
    for name, expected in unsupported.items():
        if raw.get(name, expected) != expected:
            raise ModelLoadError(
                f"config.json sets {name} to {raw[name]!r}; this engine runs checkpoints with {expected!r}."
            )
    text = raw["text_config"]
    config = HiggsAudioV2Config(
        vocab_size=text["vocab_size"],
        hidden_size=text["hidden_size"],
        intermediate_size=text["intermediate_size"],
        num_hidden_layers=text["num_hidden_layers"],
        num_attention_heads=text["num_attention_heads"],
        num_key_value_heads=text["num_key_value_heads"],
        head_dim=text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"],
        hidden_act=text.get("hidden_act", "silu"),
        attention_bias=text.get("attention_bias", False),
        mlp_bias=text.get("mlp_bias", False),
        max_position_embeddings=text["max_position_embeddings"],
        rms_norm_eps=text["rms_norm_eps"],
        rope_parameters=_rope_parameters(text),
        eos_token_id=text.get("eos_token_id"),
        pad_token_id=raw.get("pad_token_id"),
        num_codebooks=raw["audio_num_codebooks"],
        codebook_size=raw["audio_codebook_size"] + 2,
        audio_stream_bos_id=raw["audio_stream_bos_id"],
        audio_stream_eos_id=raw["audio_stream_eos_id"],
        audio_token_id=raw["audio_out_token_idx"],
        audio_delay_token_id=raw["audio_out_token_idx"],  # only for transformers' processor; any id will do
        audio_bos_token_id=raw["audio_out_bos_token_id"],
        dtype=raw.get("torch_dtype") or raw.get("dtype"),
    )
    return config, _audio_paths(raw, config.num_hidden_layers)


def _rope_parameters(text: dict[str, Any]) -> dict[str, Any]:
    if text.get("rope_parameters"):
        return dict(text["rope_parameters"])
    scaling = dict(text.get("rope_scaling") or {"rope_type": "default"})
    scaling.setdefault("rope_type", scaling.pop("type", "default"))
    return {"rope_theta": text["rope_theta"], **scaling}


def _audio_paths(raw: dict[str, Any], num_layers: int) -> tuple[AudioPath, ...]:
    """Boson's `audio_adapter_type` says what the layers outside `audio_dual_ffn_layers` do with audio columns."""
    adapter = raw.get("audio_adapter_type", "dual_ffn_fast_forward")
    others: dict[str, AudioPath] = {"dual_ffn_fast_forward": "skip", "dual_ffn": "shared", "stack": "shared"}
    if adapter not in others:
        raise ModelLoadError(f"audio_adapter_type is {adapter!r}; allowed is one of {', '.join(others)}.")
    listed = raw.get("audio_dual_ffn_layers")
    dual = set(range(num_layers) if listed is None else listed) if adapter != "stack" else set()
    return tuple("dual" if layer in dual else others[adapter] for layer in range(num_layers))
