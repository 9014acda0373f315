"""The built-in random checkpoint: the same bytes always, no network, the released model's architecture, and noise."""

from __future__ import annotations

import json
import logging
import re
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
from safetensors import safe_open

from higgs_core import ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.built_in import TINY
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.prompt.tokenizer import CONTROL_TOKENS, HiggsTokenizer
from tests.helpers.paths import GOLDEN

TINY_43 = GOLDEN / "boson_tiny_43"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def tensor_names(folder: Path) -> set[str]:
    """Names with layer numbers taken out."""
    with safe_open(folder / "model.safetensors", "pt") as stored:
        return {re.sub(r"^layers\.\d+\.", "layers.N.", name) for name in stored.keys()}  # noqa: SIM118 not a mapping


def test_two_writings_have_the_same_bytes(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    write_tiny(tmp_path)
    first, second = files_of(tiny[0].parent), files_of(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert {"model/model.safetensors", "model/tokenizer.json", "codec/model.safetensors"} <= first.keys()


def test_neither_writing_nor_loading_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=128).close()


def test_the_language_model_has_the_tensors_and_the_config_of_bosons_format(tiny: tuple[Path, Path]) -> None:
    assert tensor_names(tiny[0]) == tensor_names(TINY_43)
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tiny[0], TINY_43))
    for option in ("model_type", "audio_adapter_type", "audio_num_codebooks", "audio_codebook_size"):
        assert ours[option] == theirs[option]
    rope = ours["text_config"]["rope_scaling"]
    assert (rope["rope_type"], rope["factor"], rope["original_max_position_embeddings"]) == ("llama3", 32.0, 1024)
    assert ours["audio_dual_ffn_layers"] == list(range(ours["text_config"]["num_hidden_layers"]))


def test_the_tokenizer_knows_every_control_token_and_every_byte(tiny: tuple[Path, Path]) -> None:
    tokenizer = HiggsTokenizer.from_folder(str(tiny[0]))
    text = "Grüße, 你好, 👋\x00\n" + "".join(CONTROL_TOKENS.values())
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(vars(tokenizer.control).values())


def test_the_codec_has_the_released_codecs_strides_and_codebooks(tiny: tuple[Path, Path]) -> None:
    config: dict[str, Any] = json.loads((tiny[1] / "config.json").read_text())
    assert config["acoustic_model_config"]["downsampling_ratios"] == [8, 5, 4, 2, 3]
    assert config["acoustic_model_config"]["upsampling_ratios"] == [8, 5, 4, 2, 3]
    assert config["codebook_size"] == 1024
    assert config["target_bandwidths"] == [0.5, 1, 1.5, 2]
    assert config["semantic_model_config"]["model_type"] == "hubert"


def test_whatever_runs_on_it_says_that_it_is_noise(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, logger="higgs_core"),
        HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=128) as engine,
    ):
        assert engine.built_in is TINY
    assert TINY.notice in caplog.text


def test_a_checkpoint_from_a_folder_does_not_claim_to_be_noise(tiny: tuple[Path, Path]) -> None:
    with HiggsAudioEngine.from_pretrained(str(tiny[0]), device="cpu", max_batch_size=1, max_context=128) as engine:
        assert engine.built_in is None


def test_it_stops_by_itself_and_can_be_heard(tiny_engine: HiggsAudioEngine) -> None:
    results = [
        tiny_engine.generate(ChatMLSample([Message("user", text)]), GenerationParams(max_new_tokens=1500, seed=seed))
        for seed, text in enumerate(["Hello.", "The sun rises in the east.", "One two three."])
    ]
    for result in results:
        assert result.finish_reason == "stop"
        assert result.audio is not None
        assert result.text.endswith("<|eot_id|>")
    loudest = max(float(abs(result.audio).max(initial=0.0)) for result in results if result.audio is not None)
    assert 0.01 < loudest < 4
