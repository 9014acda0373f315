"""Checkpoints that are quantised while they are read: the same as quantising them whole, without ever holding them."""

from __future__ import annotations

import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from higgs_core.checkpoint import safetensors_reader
from higgs_core.checkpoint.load import load_model
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.errors import ModelLoadError
from higgs_core.kernels.linear.quantized_weight import VALUE_DTYPES, QuantizedWeight, quantize_into
from higgs_core.model.weights import quantized
from tests.higgs_core.checkpoint.test_load import CPU, change_tensors, in_shards, in_transformers_format
from tests.higgs_core.model.test_quantized_weights import assert_same

KINDS = tuple(VALUE_DTYPES)


@pytest.fixture(scope="module")
def boson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny(tmp_path_factory.mktemp("tiny"))[0]


class Scratch(TorchDispatchMode):
    """Counts the bytes of the tensors that the operations inside make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {self._key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and self._key(made) not in given | self._live.keys():
                self._live[self._key(made)] = made.untyped_storage().nbytes()
                weakref.finalize(made, self._live.pop, self._key(made), None)
        self.peak = max(self.peak, sum(self._live.values()))
        return result

    @staticmethod
    def _key(tensor: torch.Tensor) -> int:
        return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("staging", [16 << 20, 1000])  # whole matrices, and a few rows at a time
def test_both_formats_give_the_quantised_fused_weights(
    kind: str, staging: int, boson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, plain = load_model(boson, CPU, torch.bfloat16)
    theirs = in_transformers_format(boson, tmp_path / "theirs", text_head=True)
    shards = in_shards(boson, tmp_path / "shards", 3)
    monkeypatch.setattr(safetensors_reader, "STAGING_BYTES", staging)
    for folder in (boson, theirs, shards):
        weights = load_model(folder, CPU, torch.bfloat16, kind=kind)[1]
        assert isinstance(weights.layers[0].qkv, QuantizedWeight)
        assert_same(weights, quantized(plain, kind), config)


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_dtype_is_that_of_everything_else(kind: str, boson: Path) -> None:
    config, plain = load_model(boson, CPU, torch.float32)
    weights = load_model(boson, CPU, None, kind=kind)[1]
    assert_same(weights, quantized(plain, kind), config)
    assert plain.kind is None
    assert weights.nbytes < plain.nbytes


def test_the_scratch_is_a_few_times_one_block_whatever_the_matrix(boson: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = 2048
    monkeypatch.setattr(safetensors_reader, "STAGING_BYTES", block)
    inside, peaks, rows = threading.Semaphore(1), [], []

    def watched(weight: torch.Tensor, destination: QuantizedWeight) -> None:
        assert inside.acquire(blocking=False), "two blocks are quantised at once"
        with Scratch() as scratch:
            quantize_into(weight, destination)
        peaks.append(scratch.peak)
        rows.append(weight.shape[0])
        assert weight.nbytes <= block
        inside.release()

    monkeypatch.setattr(safetensors_reader, "quantize_into", watched)
    weights = load_model(boson, CPU, None, kind="int8")[1]
    assert len(rows) > 100
    assert sum(rows) == sum(
        part.shape[0]
        for layer in weights.layers
        for part in (layer.qkv, layer.output, layer.text.gate_up, layer.text.down)
    ) + sum(
        layer.audio.gate_up.shape[0] + layer.audio.down.shape[0]
        for layer in weights.layers
        if layer.audio is not None and layer.audio is not layer.text
    )
    # A block in fp32 is twice as large as in bf16; the rest are numbers of each row.
    assert 2 * block <= max(peaks) <= 3 * block


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_the_tensors_name(
    kind: str, value: float, boson: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(boson, tmp_path / "spoilt"))

    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
        spoilt = tensors["layers.1.mlp.up_proj.weight"].clone()
        spoilt[3, 5] = value
        return {"layers.1.mlp.up_proj.weight": spoilt}

    change_tensors(folder, spoil)
    with pytest.raises(
        ModelLoadError, match=r"layers\.1\.mlp\.up_proj\.weight of model\.safetensors holds values that are not finite"
    ):
        load_model(folder, CPU, None, kind=kind)
    load_model(folder, CPU, None)
