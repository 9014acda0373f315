"""Random models of any size, created on their device: nothing is read from disk or downloaded."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import HiggsAudioV2TokenizerConfig

from higgs_core.build import EngineParts, LoadedModel, build_parts
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from higgs_core.config import ModelConfig, read_config
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, dense, quantize_into
from higgs_core.model.weights import DecoderWeights, allocate, destinations
from higgs_core.prompt.tokenizer import HiggsTokenizer

_NOISE_BLOCK = (1 << 23) - 15  # odd, so that the rows of no matrix repeat
_LOGIT_SPREAD = 4.0


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder. Small ones have as many layers as the released model, which decide the host's time."""

    name: str
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int = 28
    vocabulary: int = 2048

    def raw_config(self) -> dict[str, object]:
        """`config.json` in Boson's format, with the ids of the built-in tokenizer."""
        raw = json.loads((_tiny_folder() / "config.json").read_text())
        raw["audio_dual_ffn_layers"] = list(range(self.layers))
        raw["text_config"] |= {
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "num_hidden_layers": self.layers,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 131072,
        }
        return raw

    def config(self) -> ModelConfig:
        return read_config(self.raw_config())


FULL_SIZE = Architecture("full size", 3072, 8192, 24, 8, 128, vocabulary=128256)
HIDDEN_512 = Architecture("hidden 512", 512, 2048, 8, 4, 64)
HIDDEN_128 = Architecture("hidden 128", 128, 512, 4, 2, 32)
SMALLEST = Architecture("smallest", 96, 160, 6, 2, 32, layers=3, vocabulary=512)  # heads are not hidden / head_dim


def random_model(
    architecture: Architecture,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    text_head: bool = True,
    seed: int = 0,
    kind: str | None = None,
) -> tuple[ModelConfig, DecoderWeights]:
    """Random weights, drawn on their device. kind: as `DecoderWeights.kind`; each matrix is quantised when it is drawn.

    The audio head's stream tokens have logit 0 among logits of a wide spread, so that neither is ever among the best 50
    and a segment always lasts until its step limit, which a benchmark sets.
    """
    config = architecture.config()
    weights = allocate(config, torch.device(device), dtype, text_head=text_head, kind=kind)
    block = torch.randn(_NOISE_BLOCK, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
    start = 0
    for name, destination in destinations(weights, config).items():
        tensor = destination if isinstance(destination, torch.Tensor) else block.new_empty(destination.shape)
        if name.endswith("norm.weight"):
            tensor.fill_(1.0)
            continue
        start = _fill(tensor.view(-1), block, start)
        tensor.mul_(_scale(name, tensor.shape[1]))
        if isinstance(destination, QuantizedWeight):
            quantize_into(tensor, destination)
    by_codebook = weights.audio_head.view(config.num_codebooks, config.codebook_size, -1)
    by_codebook[:, config.stream_bos :] = 0.0
    return config, weights


def _scale(name: str, width: int) -> float:
    if "embed" in name:
        return 0.5
    if name.startswith("audio_lm_head"):
        return float(_LOGIT_SPREAD * width**-0.5)
    return float(width**-0.5)


def _fill(flat: torch.Tensor, block: torch.Tensor, start: int) -> int:
    """Fill `flat` with the noise block, repeated, from `start` on; returns the start for the next tensor."""
    done = 0
    while done < flat.shape[0]:
        piece = block[start : start + flat.shape[0] - done]
        flat[done : done + piece.shape[0]] = piece
        done += piece.shape[0]
        start = (start + piece.shape[0]) % block.shape[0]
    return start


def released_codec_config() -> HiggsAudioV2TokenizerConfig:
    """The released codec's architecture."""
    return HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        codebook_dim=64,
        acoustic_model_config={
            "model_type": "dac",
            "downsampling_ratios": [8, 5, 4, 2, 3],
            "upsampling_ratios": [8, 5, 4, 2, 3],
            "encoder_hidden_size": 64,
            "decoder_hidden_size": 1024,
            "hidden_size": 256,
        },
    )


def random_codec(device: torch.device | str, *, full_size: bool) -> AudioCodec:
    """The released codec's architecture (or the tiny one's) with random weights."""
    if not full_size:
        return AudioCodec.from_folder(_tiny_folder().parent / "codec", torch.device(device))
    with torch.device(device):
        model = HiggsAudioV2TokenizerModel(released_codec_config())
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.embed"):
            torch.nn.init.normal_(buffer)
    return AudioCodec(model.to(device))


def random_parts(
    architecture: Architecture,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    slots: int,
    context: int,
    codec: AudioCodec | None = None,
    text_head: bool = True,
    kind: str | None = None,
) -> EngineParts:
    """The parts of an engine with a random model. kind: as in `random_model`."""
    config, weights = random_model(architecture, device, dtype, text_head=text_head, kind=kind)
    model = LoadedModel(config, weights, tokenizer(), codec)
    return build_parts(model, slots, context)


def tokenizer() -> HiggsTokenizer:
    return HiggsTokenizer.from_folder(str(_tiny_folder()))


def save(architecture: Architecture, config: ModelConfig, weights: DecoderWeights, folder: Path) -> int:
    """Write a checkpoint with transformers' names, one shard per layer; returns the bytes of `weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(folder)
    (folder / "config.json").write_text(json.dumps(architecture.raw_config()))
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in destinations(weights, config).items():
        part = name.split(".")[1] if name.startswith("layers.") else "rest"
        shards.setdefault(f"model-{part}.safetensors", {})[name] = dense(weight, weights.norm.dtype)
    for file, tensors in shards.items():
        save_file({name: tensor.cpu().clone() for name, tensor in tensors.items()}, folder / file)
    weight_map = {name: file for file, tensors in shards.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return weights.nbytes


@cache
def _tiny_folder() -> Path:
    """The folder of the tiny checkpoint's language model; removed when the process ends."""
    _scratch.append(tempfile.TemporaryDirectory(prefix="higgs-benchmark-"))
    return write_tiny(Path(_scratch[-1].name))[0]


_scratch: list[tempfile.TemporaryDirectory[str]] = []
