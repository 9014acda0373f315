"""Checkpoints of both formats, whole and sharded, and those that must be refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.checkpoint import safetensors_reader
from higgs_core.checkpoint.load import load_config, load_model
from higgs_core.checkpoint.safetensors_reader import READERS, STAGING_BYTES, index_folder, read_into
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.errors import ModelLoadError, RequestError
from higgs_core.model.weights import destinations
from tests.helpers.transformers_twin import transformers_twin

CPU = torch.device("cpu")
State = dict[str, torch.Tensor]
SAMPLE = ChatMLSample(
    [
        Message("user", "A clip."),
        Message("assistant", AudioContent(codes=np.random.default_rng(0).integers(0, 1024, (8, 12)))),
        Message("user", "The same words, please."),
    ]
)


@pytest.fixture(scope="module")
def boson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny(tmp_path_factory.mktemp("tiny"))[0]


@pytest.fixture
def checkpoint(boson: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(boson, tmp_path / "checkpoint"))


def in_transformers_format(source: Path, target: Path, *, text_head: bool, shard_size: str = "1GB") -> Path:
    """Save the checkpoint again with transformers' own class and names."""
    config, weights = load_model(source, CPU, torch.bfloat16)
    model = transformers_twin(config, weights)
    if not text_head:
        model.text_lm_head = None
    model.generation_config.eos_token_id = config.eos_token_ids[0]
    model.save_pretrained(target, max_shard_size=shard_size)
    for file in source.glob("*token*.json"):
        shutil.copy(file, target)
    return target


def in_shards(source: Path, target: Path, count: int) -> Path:
    """Boson's names in several files and an index, tensors dealt out like cards."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = load_file(source / "model.safetensors")
    weight_map = {name: f"model-{i % count:05}-of-{count:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        save_file({name: tensor for name, tensor in tensors.items() if weight_map[name] == file}, target / file)
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return target


def change_tensors(folder: Path, change: Callable[[State], Mapping[str, torch.Tensor | None]]) -> None:
    """Merge tensors into model.safetensors; None removes one."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    changed: dict[str, torch.Tensor | None] = {**tensors, **change(tensors)}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, file)


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def outputs(folder: Path, dtype: str = "fp32", *, text_first: bool = False) -> list[Any]:
    """Everything that one greedy and one sampled generation wrote."""
    written: list[Any] = []
    with HiggsAudioEngine.from_pretrained(
        str(folder), device="cpu", dtype=dtype, max_batch_size=1, max_context=256
    ) as e:
        for temperature in (0.0, 1.0):
            params = GenerationParams(
                max_new_tokens=24, temperature=temperature, seed=3, force_audio_gen=not text_first, stop_strings=()
            )
            result = e.generate(SAMPLE, params)
            columns = [segment.tolist() for segment in result.delayed_audio_columns]
            written.append((result.prompt_token_ids, result.text_token_ids, columns, result.finish_reason))
    return written


def tensors_of(folder: Path, dtype: torch.dtype = torch.bfloat16) -> State:
    config, weights = load_model(folder, CPU, dtype)
    return destinations(weights, config)


def assert_same_weights(left: State, right: State) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


class TestFormats:
    @pytest.mark.parametrize("text_first", [False, True])
    def test_the_same_weights_speak_the_same_in_both_formats_whole_and_sharded(
        self, boson: Path, tmp_path: Path, text_first: bool
    ) -> None:
        theirs = in_transformers_format(boson, tmp_path / "theirs", text_head=True)
        theirs_sharded = in_transformers_format(boson, tmp_path / "parts", text_head=True, shard_size="200KB")
        assert len(list(theirs_sharded.glob("*.safetensors"))) > 3
        expected = outputs(boson, text_first=text_first)
        assert any(columns for *_, columns, _ in expected) or text_first
        assert outputs(in_shards(boson, tmp_path / "shards", 3), text_first=text_first) == expected
        assert outputs(theirs, text_first=text_first) == expected
        assert outputs(theirs_sharded, text_first=text_first) == expected

    def test_a_checkpoint_without_text_head_stops_after_the_audio_and_refuses_text(
        self, boson: Path, tmp_path: Path
    ) -> None:
        folder = in_transformers_format(boson, tmp_path / "theirs", text_head=False)
        with HiggsAudioEngine.from_pretrained(str(folder), device="cpu", max_batch_size=1, max_context=512) as engine:
            result = engine.generate(SAMPLE, GenerationParams(max_new_tokens=400, seed=2))
            assert result.finish_reason == "stop"
            assert len(result.delayed_audio_columns) == 1
            assert (result.delayed_audio_columns[0][:-1, -1] == 1025).all(), "the countdown ran out"
            assert result.text == "<|AUDIO_OUT|><|audio_eos|>"
            with pytest.raises(RequestError, match="force_audio_gen is false, but this checkpoint has no text head"):
                engine.generate(SAMPLE, GenerationParams(force_audio_gen=False))

    def test_frozen_and_trainable_halves_are_joined_in_that_order(self, boson: Path, checkpoint: Path) -> None:
        def split(tensors: State) -> Mapping[str, torch.Tensor | None]:
            embedding = tensors["embed_tokens.weight"]
            head = tensors["audio_decoder_proj.text_lm_head.weight"]
            return {
                "embed_tokens.weight": None,
                "embed_tokens.embedding_trainable.weight": embedding[200:].clone(),
                "embed_tokens.embedding_frozen.weight": embedding[:200].clone(),
                "audio_decoder_proj.text_lm_head.weight": None,
                "audio_decoder_proj.text_lm_head.linear_trainable.weight": head[260:].clone(),
                "audio_decoder_proj.text_lm_head.linear_frozen.weight": head[:260].clone(),
            }

        change_tensors(checkpoint, split)
        assert_same_weights(tensors_of(checkpoint), tensors_of(boson))

    def test_half_of_a_pair_is_not_enough(self, checkpoint: Path) -> None:
        change_tensors(
            checkpoint,
            lambda tensors: {
                "embed_tokens.weight": None,
                "embed_tokens.embedding_frozen.weight": tensors["embed_tokens.weight"][:200].clone(),
            },
        )
        with pytest.raises(ModelLoadError, match=r"mis-shaped tensors: embed_tokens\.weight is \[200, 64\] instead of"):
            load_model(checkpoint, CPU, None)

    def test_codebook_weights_and_rotary_buffers_are_ignored(self, boson: Path, checkpoint: Path) -> None:
        extra = {
            "audio_codebook_weights": torch.ones(8),
            "rotary_emb.inv_freq": torch.ones(8),
            "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
        }
        change_tensors(checkpoint, lambda _: extra)
        assert_same_weights(tensors_of(checkpoint), tensors_of(boson))

    def test_a_checkpoint_may_state_how_many_words_it_speaks_at_once(self, checkpoint: Path) -> None:
        assert load_config(checkpoint).max_piece_words == 100
        (checkpoint / "generation_config.json").write_text('{"eos_token_id": [7, 9], "max_piece_words": 25}')
        assert load_config(checkpoint).max_piece_words == 25
        assert load_config(checkpoint).eos_token_ids == (7, 9)
        with HiggsAudioEngine.from_pretrained(
            str(checkpoint), device="cpu", max_batch_size=1, max_context=256
        ) as engine:
            assert engine.max_piece_words == 25


class TestRefusals:
    @pytest.mark.parametrize(
        "name",
        [
            "layers.2.audio_mlp.down_proj.weight",
            "layers.3.self_attn.k_proj.weight",
            "layers.0.audio_post_attention_layernorm.weight",
            "norm.weight",
            "embed_tokens.weight",
        ],
    )
    def test_a_missing_tensor_is_named(self, checkpoint: Path, name: str) -> None:
        change_tensors(checkpoint, lambda _: {name: None})
        with pytest.raises(ModelLoadError, match=f"missing tensors: {name}."):
            load_model(checkpoint, CPU, None)

    def test_heads_and_codebooks_are_named_without_bosons_prefix(self, checkpoint: Path) -> None:
        absent = {"audio_decoder_proj.audio_lm_head.weight": None, "audio_codebook_embeddings.weight": None}
        change_tensors(checkpoint, lambda _: absent)
        with pytest.raises(ModelLoadError, match=r"missing tensors: embed_audio_tokens\.weight, audio_lm_head\.weight"):
            load_model(checkpoint, CPU, None)

    def test_a_tensor_missing_from_transformers_format_is_named(self, boson: Path, tmp_path: Path) -> None:
        folder = in_transformers_format(boson, tmp_path / "theirs", text_head=False)
        change_tensors(folder, lambda _: {"model.layers.1.audio_mlp.up_proj.weight": None})
        with pytest.raises(ModelLoadError, match=r"missing tensors: layers\.1\.audio_mlp\.up_proj\.weight"):
            load_model(folder, CPU, None)

    def test_many_missing_tensors_are_counted_after_the_first_dozen(self, checkpoint: Path) -> None:
        change_tensors(checkpoint, lambda tensors: {name: None for name in tensors if name.startswith("layers.1.")})
        with pytest.raises(ModelLoadError, match=r"layers\.1\..* and 2 more"):
            load_model(checkpoint, CPU, None)

    def test_a_mis_shaped_tensor_is_named_with_both_shapes(self, checkpoint: Path) -> None:
        wrong = {"layers.1.mlp.up_proj.weight": torch.zeros(64, 128, dtype=torch.bfloat16)}
        change_tensors(checkpoint, lambda _: wrong)
        with pytest.raises(
            ModelLoadError, match=r"layers\.1\.mlp\.up_proj\.weight is \[64, 128\] instead of \[128, 64\]"
        ):
            load_model(checkpoint, CPU, None)

    def test_a_file_cut_short_is_refused(self, checkpoint: Path) -> None:
        file = checkpoint / "model.safetensors"
        os.truncate(file, file.stat().st_size - 100)
        with pytest.raises(ModelLoadError, match=r"model\.safetensors is cut short; download it again"):
            load_model(checkpoint, CPU, None)

    @pytest.mark.parametrize("kept", [0, 7, 100])
    def test_a_file_cut_inside_its_header_is_refused(self, checkpoint: Path, kept: int) -> None:
        os.truncate(checkpoint / "model.safetensors", kept)
        with pytest.raises(ModelLoadError, match=r"model\.safetensors is damaged or cut short"):
            load_model(checkpoint, CPU, None)

    def test_a_file_that_shrinks_after_its_header_was_read_is_refused(self, checkpoint: Path) -> None:
        stored = index_folder(checkpoint)["norm.weight"]
        os.truncate(stored.file, stored.offset + 10)
        with pytest.raises(ModelLoadError, match=r"model\.safetensors ended early"):
            read_into([(stored, torch.empty(stored.shape))])

    def test_missing_weights_and_a_missing_shard_are_named(self, boson: Path, checkpoint: Path, tmp_path: Path) -> None:
        (checkpoint / "model.safetensors").unlink()
        with pytest.raises(ModelLoadError, match=r"lacks model\.safetensors"):
            load_model(checkpoint, CPU, None)
        shards = in_shards(boson, tmp_path / "shards", 3)
        (shards / "model-00001-of-00003.safetensors").unlink()
        with pytest.raises(ModelLoadError, match=r"lacks model-00001-of-00003\.safetensors; download it again"):
            load_model(shards, CPU, None)

    def test_another_model_type_is_refused_and_both_known_ones_are_named(self, checkpoint: Path) -> None:
        change_config(checkpoint, model_type="llama")
        with pytest.raises(ModelLoadError, match=r"model_type is 'llama'; allowed is 'higgs_audio'.*'higgs_audio_v2'"):
            load_config(checkpoint)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("use_audio_out_self_attention", True),
            ("use_rq_transformer", True),
            ("use_delay_pattern", False),
            ("audio_decoder_proj_num_layers", 2),
            ("encode_whisper_embed", True),
        ],
    )
    def test_options_that_change_the_mathematics_are_refused_by_name(
        self, checkpoint: Path, option: str, value: object
    ) -> None:
        change_config(checkpoint, **{option: value})
        with pytest.raises(ModelLoadError, match=f"config.json sets {option} to {value!r}"):
            load_config(checkpoint)

    def test_biases_another_activation_and_an_unknown_adapter_are_refused(self, checkpoint: Path) -> None:
        text = json.loads((checkpoint / "config.json").read_text())["text_config"]
        for changed in ({"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"}):
            change_config(checkpoint, text_config=text | changed)
            with pytest.raises(ModelLoadError, match="biases or an activation other than silu"):
                load_config(checkpoint)
        change_config(checkpoint, text_config=text, audio_adapter_type="cross_attention")
        with pytest.raises(ModelLoadError, match="audio_adapter_type is 'cross_attention'; allowed is one of"):
            load_config(checkpoint)

    @pytest.mark.parametrize("words", [0, -3, 101, 2.5, "25", True, None])
    def test_words_of_a_piece_that_cannot_be_are_refused(self, checkpoint: Path, words: object) -> None:
        (checkpoint / "generation_config.json").write_text(json.dumps({"max_piece_words": words}))
        with pytest.raises(ModelLoadError, match=r"max_piece_words to .*; allowed is a whole number from 1 to 100"):
            load_config(checkpoint)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_a_damaged_config_is_refused(self, checkpoint: Path, text: str) -> None:
        (checkpoint / "config.json").write_text(text)
        with pytest.raises(ModelLoadError):
            load_config(checkpoint)

    def test_an_absent_config_and_one_that_lacks_a_field_are_refused(self, checkpoint: Path) -> None:
        change_config(checkpoint, audio_num_codebooks=None)
        raw = json.loads((checkpoint / "config.json").read_text())
        del raw["audio_num_codebooks"]
        (checkpoint / "config.json").write_text(json.dumps(raw))
        with pytest.raises(ModelLoadError, match=r"lacks a field .'audio_num_codebooks'"):
            load_config(checkpoint)
        (checkpoint / "config.json").unlink()
        with pytest.raises(ModelLoadError, match=r"no config\.json"):
            load_config(checkpoint)

    def test_damaged_json_inside_weights_or_index_is_refused(self, boson: Path, checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").write_bytes((10).to_bytes(8, "little") + b"not json!!" + bytes(64))
        with pytest.raises(ModelLoadError, match=r"model\.safetensors"):
            load_model(checkpoint, CPU, None)
        (checkpoint / "model.safetensors.index.json").write_text("{")
        with pytest.raises(ModelLoadError, match=r"model\.safetensors\.index\.json"):
            load_model(checkpoint, CPU, None)

    def test_halves_of_a_pair_must_have_equal_columns(self, checkpoint: Path) -> None:
        change_tensors(
            checkpoint,
            lambda tensors: {
                "embed_tokens.weight": None,
                "embed_tokens.embedding_frozen.weight": tensors["embed_tokens.weight"][:200].clone(),
                "embed_tokens.embedding_trainable.weight": tensors["embed_tokens.weight"][200:, :32].clone(),
            },
        )
        with pytest.raises(ModelLoadError, match=r"embed_tokens\.weight"):
            load_model(checkpoint, CPU, None)


class TestDtypes:
    def test_bf16_becomes_fp32_exactly(self, boson: Path) -> None:
        exact, stored = tensors_of(boson, torch.float32), tensors_of(boson, torch.bfloat16)
        assert all(torch.equal(exact[name], stored[name].float()) for name in stored)
        original = load_file(boson / "model.safetensors")
        assert torch.equal(stored["layers.1.self_attn.v_proj.weight"], original["layers.1.self_attn.v_proj.weight"])

    def test_auto_is_fp32_on_a_cpu(self, boson: Path) -> None:
        assert load_model(boson, CPU, None)[1].norm.dtype == torch.float32

    @pytest.mark.parametrize("dtype", ["bf16", "fp16"])
    def test_half_precision_speaks(self, boson: Path, dtype: str) -> None:
        greedy, sampled = outputs(boson, dtype)
        for _, text_tokens, columns, _ in (greedy, sampled):
            codes = np.array(columns[0])
            assert text_tokens
            assert codes.shape[1] >= 9
            assert len(np.unique(codes[:, 8:])) > 8, "speech, not one code over and over"


class TestReading:
    def test_host_memory_stays_bounded_whatever_the_file_holds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beside the destination only the staging buffers are used, here an eighth of the file."""
        monkeypatch.setattr(safetensors_reader, "STAGING_BYTES", 1 << 20)
        size = 64 << 20
        tensor = torch.arange(size // 2).bfloat16()
        save_file({"weight": tensor}, tmp_path / "model.safetensors")
        destination = torch.ones(tensor.shape, dtype=torch.float16)  # its pages are there before the reading starts
        before, seen = _resident_bytes(), []

        def on_bytes(count: int) -> None:
            seen.append((count, _resident_bytes()))

        read_into([(index_folder(tmp_path)["weight"], destination)], on_bytes=on_bytes)
        assert sum(count for count, _ in seen) == size
        assert len(seen) == 64
        assert max(resident for _, resident in seen) - before <= (READERS << 20) + (8 << 20)
        assert torch.equal(destination, tensor.half())

    def test_tensors_longer_than_a_staging_buffer_arrive_whole(self, tmp_path: Path) -> None:
        tensor = torch.randn(STAGING_BYTES // 4 + 12345, generator=torch.Generator().manual_seed(0))
        save_file({"a": tensor[:7].clone(), "b": tensor}, tmp_path / "model.safetensors")
        stored = index_folder(tmp_path)
        for dtype in (torch.float32, torch.bfloat16):
            whole, short = torch.empty(tensor.shape, dtype=dtype), torch.empty(7, dtype=dtype)
            read_into([(stored["b"], whole), (stored["a"], short)])
            assert torch.equal(whole, tensor.to(dtype))
            assert torch.equal(short, tensor[:7].to(dtype))


def _resident_bytes() -> int:
    """Of this process, as the kernel counts it; files in the page cache are not among them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
