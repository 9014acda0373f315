"""The built-in voice: its files are small, load like any checkpoint's, need no network, and speak."""

from __future__ import annotations

import json
import logging
import socket
import tomllib
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.built_in import DEMO
from higgs_core.checkpoint import built_in_files
from higgs_core.checkpoint.built_in_files import DEMO_DATA, built_in_folders
from higgs_core.checkpoint.load import load_config
from higgs_core.errors import ModelLoadError
from higgs_core.prompt.tokenizer import CONTROL_TOKENS, HiggsTokenizer
from higgs_core.text.markup import TEXT_TOKENS
from tests.helpers.paths import ROOT

MAX_BYTES = 25_000_000
FILES = sorted(file for file in DEMO_DATA.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def demo() -> Iterator[HiggsAudioEngine]:
    torch.set_num_threads(1)
    with HiggsAudioEngine.from_pretrained("demo", device="cpu", max_batch_size=2, max_context=2048) as engine:
        yield engine


def test_its_files_are_few_and_small_enough_for_a_repository() -> None:
    names = {str(file.relative_to(DEMO_DATA)) for file in FILES}
    assert {"model/config.json", "model/model.safetensors", "model/generation_config.json"} <= names
    assert {"model/tokenizer.json", "codec/config.json", "codec/weights.safetensors"} <= names
    assert sum(file.stat().st_size for file in FILES) <= MAX_BYTES


def test_its_files_are_installed_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["higgs_core"]
    package = ROOT / "higgs_core"
    installed = {package / path for pattern in patterns for path in glob(pattern, root_dir=package, recursive=True)}
    assert set(FILES) <= installed


def test_the_language_model_is_read_where_it_lies() -> None:
    before = {file: file.stat().st_mtime_ns for file in FILES}
    with built_in_folders(DEMO) as (model, codec):
        assert model == DEMO_DATA / "model"
        assert (codec / "model.safetensors").is_file()
        assert not codec.is_relative_to(DEMO_DATA)
    assert not codec.exists()
    assert {file: file.stat().st_mtime_ns for file in FILES} == before


def test_it_states_how_many_words_it_speaks_at_once(demo: HiggsAudioEngine) -> None:
    stated = json.loads((DEMO_DATA / "model/generation_config.json").read_text())["max_piece_words"]
    assert demo.max_piece_words == stated < 100


def test_its_shapes_fit_the_released_models_codec() -> None:
    config = load_config(DEMO_DATA / "model")
    assert (config.num_codebooks, config.codebook_size) == (8, 1026)
    assert (config.stream_bos, config.stream_eos) == (1024, 1025)


def test_its_tokenizer_knows_every_control_token_and_every_byte() -> None:
    tokenizer = HiggsTokenizer.from_folder(str(DEMO_DATA / "model"))
    assert all(len(tokenizer.encode(token)) == 1 for token in TEXT_TOKENS)
    text = "Grüße, 你好, 👋\x00\n" + "".join(CONTROL_TOKENS.values())
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(vars(tokenizer.control).values())


def test_loading_opens_no_connection_and_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with (
        caplog.at_level(logging.WARNING, logger="higgs_core"),
        HiggsAudioEngine.from_pretrained("demo", "demo", device="cpu", max_batch_size=1, max_context=128) as engine,
    ):
        assert engine.built_in is DEMO
    assert DEMO.notice in caplog.text
    assert DEMO.limits in caplog.text


def test_it_speaks_and_takes_a_clip(demo: HiggsAudioEngine) -> None:
    params = GenerationParams(max_new_tokens=40, seed=1)
    clip = demo.generate(ChatMLSample([Message("user", "Hello there.")]), params).audio
    assert clip is not None
    assert len(clip) > 0
    assert 0 < np.abs(clip).max() < 4
    turns = [Message("user", "Hello there."), Message("assistant", AudioContent(waveform=clip))]
    result = demo.generate(ChatMLSample([*turns, Message("user", "It is a fine day.")]), params)
    assert result.audio is not None
    assert np.isfinite(result.audio).all()


def test_an_installation_without_its_files_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(built_in_files, "DEMO_DATA", tmp_path)
    with pytest.raises(ModelLoadError, match="install the package, or get the repository, again"):
        HiggsAudioEngine.from_pretrained("demo", device="cpu", max_batch_size=1, max_context=128)
