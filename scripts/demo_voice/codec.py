"""The codec's decoder, set by construction: transformers' DAC decoder computes a channel vocoder, but for a
compression of the loudest amplitudes by a few per cent.

Amplitudes are sums of code vectors; the pitch codebook switches one set of pulses on. The switch is a product, and the
decoder's activation, snake(x) = x + sin(a x)^2 / a, makes one: with a = 1

    snake(u + g) - snake(u - g) = 2 g + sin(2 u) sin(2 g)

is about 2 u for g = pi / 4 and 0 for g = 0; the part 2 g is taken off by channels of g alone. With a near 0 snake is
linear, so the other layers only lay samples in a row. The residual units are zero and pass their input on.

1. conv1, at 25 Hz: u + g and u - g for every pitch and pulse dimension; noise dimensions; the g alone.
2. The first transposed convolution, stride 5: each of its channels is one sample of an 8 ms stretch (192 of them), its
   taps hold the vocoder's waveforms.
3. The others, strides 4, 4, 3 and 4, bring the samples into their order.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from transformers import HiggsAudioV2TokenizerConfig, HubertConfig

from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from scripts.demo_voice.codes import BASE, PITCH
from scripts.demo_voice.tables import NOISE_DIMENSIONS, PULSE_DIMENSIONS, Tables
from scripts.demo_voice.vocoder import PULSES, noise_waves, pulse_waves

AMPLITUDES = PULSE_DIMENSIONS + NOISE_DIMENSIONS
LATENT = AMPLITUDES + len(PULSES)
"""Dimensions of the quantised vectors that mean something: amplitudes, then a switch for each pitch."""
SEMANTIC = 16
ENCODER_CHANNELS = 4
STRIDES = (5, 4, 4, 3, 4)
CHANNELS = 480
_SAMPLES = 192
_SMALL = 0.1
"""u of the largest entry of a single code's vector, for which sin(2 u) is 2 u to 0.7 per cent; a frame adds up three
codes."""
_LINEAR = 2.0**-16
_SWITCH = math.pi / 4
GAIN = 2.4
"""Of the waveform. The loudest vowels come up to 1, where a few samples are cut off."""


def config() -> HiggsAudioV2TokenizerConfig:
    """Of a size between tiny and the released codec; HuBERT, which the demo voice has no use for, is smallest."""
    return HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        codebook_size=1024,
        codebook_dim=LATENT,
        acoustic_model_config={
            "model_type": "dac",
            "encoder_hidden_size": ENCODER_CHANNELS,
            "decoder_hidden_size": CHANNELS,
            "downsampling_ratios": list(reversed(STRIDES)),
            "upsampling_ratios": list(STRIDES),
            "hidden_size": LATENT,
        },
        semantic_model_config=HubertConfig(
            hidden_size=SEMANTIC,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=[8] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            do_stable_layer_norm=False,
            mask_time_prob=0.0,
        ),
    )


@torch.no_grad()
def build(tables: Tables) -> HiggsAudioV2TokenizerModel:
    """The codec with its decoder and codebooks in place; the encoder is random until `encoder.train` has been run."""
    torch.manual_seed(0)
    model = HiggsAudioV2TokenizerModel(config()).eval()
    _set_quantizers(model, tables)
    decoder = model.acoustic_decoder
    for parameter in decoder.parameters():
        parameter.zero_()
    for name, parameter in decoder.named_parameters():
        if name.endswith("alpha"):
            parameter.fill_(_LINEAR)
    switched = 2 * len(PULSES) * PULSE_DIMENSIONS
    decoder.block[0].snake1.alpha[:, :switched] = 1.0
    scale = _SMALL / max(abs(vectors[:, :PULSE_DIMENSIONS]).max() for vectors in tables.vectors.values())
    _set_products(decoder.conv1.weight, float(scale))
    _set_waves(decoder.block[0].conv_t1.weight, tables, float(scale))
    samples = _SAMPLES
    for index, stride in enumerate(STRIDES[1:], 1):
        samples //= stride
        weight, padding = decoder.block[index].conv_t1.weight, math.ceil(stride / 2)
        for sample in range(samples * stride):
            weight[sample, sample % samples, padding + sample // samples] = 1.0
    decoder.conv2.weight[0, 0, 3] = GAIN
    return model


def _set_quantizers(model: HiggsAudioV2TokenizerModel, tables: Tables) -> None:
    """Codebooks 0, 1 and 7 look at amplitudes, the pitch codebook at the switches; the others add nothing."""
    for book, quantizer in enumerate(model.quantizer.quantizers):
        for linear in (quantizer.project_in, quantizer.project_out):
            linear.weight.zero_()
            linear.bias.zero_()
        # The decoder's fc2 takes the first dimensions of a vector; those of the semantic model stay 0.
        seen = range(AMPLITUDES, LATENT) if book == PITCH else range(AMPLITUDES)
        for dimension in seen if book == PITCH or book in tables.vectors else ():
            quantizer.project_in.weight[dimension, dimension] = 1.0
            quantizer.project_out.weight[dimension, dimension] = 1.0
        embed = quantizer.codebook.embed
        embed.zero_()
        if book == PITCH:
            embed[:, AMPLITUDES + BASE] = 1.0  # codes that are not in use sound like the ordinary pitch
            embed[: len(PULSES), AMPLITUDES:] = torch.eye(len(PULSES))
        elif book in tables.vectors:
            vectors = torch.from_numpy(tables.vectors[book])
            embed[:, :AMPLITUDES] = vectors[0]
            embed[: len(vectors), :AMPLITUDES] = vectors
    model.fc2.weight.zero_()
    model.fc2.bias.zero_()
    model.fc2.weight[:, :LATENT] = torch.eye(LATENT)


def _set_products(weight: Tensor, scale: float) -> None:
    """weight: [channels, LATENT, 7]; only the middle tap is used."""
    row = 0
    for pitch in range(len(PULSES)):
        for sign in (1.0, -1.0):
            for dimension in range(PULSE_DIMENSIONS):
                weight[row, dimension, 3] = scale
                weight[row, AMPLITUDES + pitch, 3] = sign * _SWITCH
                row += 1
    for dimension in range(PULSE_DIMENSIONS, LATENT):
        weight[row, dimension, 3] = 1.0 if dimension < AMPLITUDES else _SWITCH
        row += 1


def _set_waves(weight: Tensor, tables: Tables, scale: float) -> None:
    """weight: [channels, next channels, taps of 8 ms]. Rounded to fp16 first, so that what is taken off is exact."""
    row = 0
    taken = torch.zeros(len(PULSES), *weight.shape[1:])
    for pitch, pulses in enumerate(PULSES):
        waves = _taps(np.einsum("dsb,sbn->dn", tables.pulses, pulse_waves(pulses)) / (2 * scale)).half().float()
        for sign in (1.0, -1.0):
            weight[row : row + PULSE_DIMENSIONS, :_SAMPLES] = sign * waves
            row += PULSE_DIMENSIONS
        taken[pitch, :_SAMPLES] = 2 * waves.sum(0)
    noise = _taps(np.einsum("dsb,sbn->dn", tables.noise, noise_waves()))
    weight[row : row + NOISE_DIMENSIONS, :_SAMPLES] = noise
    row += NOISE_DIMENSIONS
    weight[row : row + len(PULSES)] = -taken


def _taps(waves: np.ndarray) -> Tensor:
    """[dimensions, SPAN] to [dimensions, samples of a stretch, taps]."""
    return torch.from_numpy(waves.reshape(len(waves), -1, _SAMPLES).transpose(0, 2, 1).copy()).float()
