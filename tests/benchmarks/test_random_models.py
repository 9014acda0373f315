"""The random models of the benchmarks: they speak as long as they may, or end by themselves."""

from __future__ import annotations

import pytest
import torch

from benchmarks.harness import TransformersSide, engine_speed, prompt_of_length, sampled, speech
from benchmarks.models import FULL_SIZE, SMALLEST, random_model, random_parts
from benchmarks.speech_ends import ending_by_itself
from higgs_core import HiggsAudioEngine
from tests.helpers.transformers_twin import prompt_of


def test_a_random_model_speaks_as_long_as_it_may_on_both_sides() -> None:
    torch.set_num_threads(1)
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=2, context=512)
    with HiggsAudioEngine(parts) as engine:
        assert engine_speed(engine, speech(), 2, 40).steps == 40
    assert TransformersSide(parts, speech()).speed(2, 20).ms_per_step > 0


def test_it_ends_by_itself_where_that_is_wanted_and_no_longer_afterwards() -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=8, context=512)
    with HiggsAudioEngine(parts) as engine:

        def results() -> list[tuple[str, int]]:
            futures = [engine.submit(speech(), sampled(300, seed)) for seed in range(8)]
            found = [future.result() for future in futures]
            return [(result.finish_reason, result.delayed_audio_columns[0].shape[1]) for result in found]

        always = results()
        with ending_by_itself(parts, 128, seed=1):
            ended = results()
            assert ended == results()  # the same every time
        assert set(always) == {("length", 300)}
        assert results() == always
    lengths = [columns for reason, columns in ended if reason == "stop"]
    assert len(lengths) >= 4
    assert len(set(lengths)) > len(lengths) // 2


def test_a_model_without_a_text_head_is_refused() -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=1, context=64, text_head=False)
    with pytest.raises(ValueError, match="text head"), ending_by_itself(parts, 128):
        pass


def test_a_prompt_has_the_length_that_is_asked_for() -> None:
    parts = random_parts(SMALLEST, "cpu", torch.float32, slots=1, context=64)
    for positions in (64, 100):
        first, second = (prompt_of(parts, prompt_of_length(parts, positions, seed)) for seed in (0, 1))
        assert first.length == second.length == positions
        assert not torch.equal(first.positions, second.positions)


def test_rows_of_random_weights_differ_and_stream_tokens_are_unlikely() -> None:
    config, weights = random_model(SMALLEST, "cpu", torch.float32)
    assert weights.code_embedding.unique(dim=0).shape[0] == weights.code_embedding.shape[0]
    assert weights.layers[0].qkv.std().item() == pytest.approx(config.hidden_size**-0.5, rel=0.05)
    assert (weights.audio_head.view(8, 1026, -1)[:, 1024:] == 0).all()


def test_the_full_size_is_the_released_models() -> None:
    config = FULL_SIZE.config()
    assert (config.hidden_size, config.intermediate_size, config.num_layers) == (3072, 8192, 28)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (24, 8, 128)
    assert (config.vocab_size, config.codebook_size, config.num_codebooks) == (128256, 1026, 8)
