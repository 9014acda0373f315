"""A decoder whose matrices are quantised: what it takes in memory, and that it computes with what it holds."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.models import FULL_SIZE, SMALLEST, random_model
from higgs_core.config import ModelConfig
from higgs_core.kernels import torch_ops
from higgs_core.kernels.linear.quantized_weight import VALUE_DTYPES, QuantizedWeight, Weight, dense, quantize
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PromptSpan
from higgs_core.model.weights import DecoderWeights, allocate, destinations, quantized

KINDS = tuple(VALUE_DTYPES)


def same(left: Weight, right: Weight) -> bool:
    if isinstance(left, QuantizedWeight) and isinstance(right, QuantizedWeight):
        bits = left.values.view(torch.uint8), right.values.view(torch.uint8)
        return left.kind == right.kind and torch.equal(*bits) and torch.equal(left.scales, right.scales)
    return isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor) and torch.equal(left, right)


def assert_same(left: DecoderWeights, right: DecoderWeights, config: ModelConfig) -> None:
    expected = destinations(right, config)
    different = [name for name, weight in destinations(left, config).items() if not same(weight, expected[name])]
    assert not different


@pytest.mark.parametrize("kind", KINDS)
def test_the_released_models_matrices_take_a_byte_a_weight(kind: str) -> None:
    config, meta = FULL_SIZE.config(), torch.device("meta")
    plain = allocate(config, meta, torch.bfloat16, text_head=True)
    small = allocate(config, meta, torch.bfloat16, text_head=True, kind=kind)
    hidden, inner, qkv, layers = 3072, 8192, (24 + 2 * 8) * 128, 28
    mlp, attention = 3 * inner * hidden, (qkv + hidden) * hidden
    mlp_scales, attention_scales = 4 * (2 * inner + hidden), 4 * (qkv + hidden)
    saved = layers * (2 * (mlp - mlp_scales) + attention - attention_scales)
    assert plain.nbytes - small.nbytes == saved
    assert plain.audio_step_nbytes - small.audio_step_nbytes == layers * (
        mlp - mlp_scales + attention - attention_scales
    )
    assert (round(plain.nbytes / 1e9, 1), round(small.nbytes / 1e9, 1)) == (11.5, 6.6)
    assert (round(plain.audio_step_nbytes / 1e9, 2), round(small.audio_step_nbytes / 1e9, 2)) == (5.69, 2.87)
    assert (plain.kind, small.kind) == (None, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_memory_are_quantised_as_a_whole(kind: str) -> None:
    config, weights = random_model(SMALLEST, "cpu", torch.bfloat16)
    made = quantized(weights, kind)
    for ours, theirs in zip(made.layers, weights.layers, strict=True):
        assert theirs.audio is not None
        assert ours.audio is not None
        assert same(ours.qkv, quantize(theirs.qkv, kind))
        assert same(ours.output, quantize(theirs.output, kind))
        assert same(ours.text.gate_up, quantize(theirs.text.gate_up, kind))
        assert same(ours.audio.down, quantize(theirs.audio.down, kind))
        assert ours.audio.mlp_norm is theirs.audio.mlp_norm
    assert made.token_embedding is weights.token_embedding
    assert made.audio_head is weights.audio_head
    _, drawn = random_model(SMALLEST, "cpu", torch.bfloat16, kind=kind)
    assert_same(drawn, made, config)


def test_an_mlp_that_text_and_audio_share_stays_shared() -> None:
    _, weights = random_model(SMALLEST, "cpu", torch.float32)
    first, second, third = weights.layers
    shared = dataclasses.replace(
        weights, layers=(dataclasses.replace(first, audio=first.text), dataclasses.replace(second, audio=None), third)
    )
    made = quantized(shared, "int8")
    assert made.layers[0].audio is made.layers[0].text
    assert made.layers[1].audio is None
    assert made.layers[2].audio is not made.layers[2].text
    assert made.nbytes < quantized(weights, "int8").nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_prefill_and_decode_step_compute_with_the_weights_that_they_hold(kind: str) -> None:
    torch.manual_seed(0)
    config, weights = random_model(SMALLEST, "cpu", torch.float32, kind=kind)
    exact = allocate(config, torch.device("cpu"), torch.float32, text_head=True)
    source = destinations(weights, config)
    for name, destination in destinations(exact, config).items():
        assert isinstance(destination, torch.Tensor)
        destination.copy_(dense(source[name], torch.float32))
    logits = []
    for each in (weights, exact):
        decoder = Decoder(config, each, KVCache(config, 1, 16, torch.device("cpu"), torch.float32), torch_ops())
        is_audio = torch.tensor([False, False, False, True, True, False])
        columns, active, lanes = torch.arange(16).view(2, 8), torch.tensor([True]), torch.tensor([0])
        decoder.prefill([PromptSpan(0, 0, torch.arange(6), is_audio, columns.T)])
        text = decoder.text_step(torch.tensor([9]), torch.tensor([6]), active, 7, lanes)
        step = decoder.decode_step(columns[:1], torch.tensor([7]), active, 8)
        logits.append(torch.cat([text.view(-1), step.view(-1)]))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
