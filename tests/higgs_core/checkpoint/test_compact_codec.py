"""The compact form of a codec: the same bits when it is expanded, little space for zeros, damage named."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from higgs_core.checkpoint.compact_codec import WEIGHTS, expand_codec, write_compact
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.errors import ModelLoadError

State = dict[str, torch.Tensor]


def compact(state: State, folder: Path) -> Path:
    """The state as a compact folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    write_compact(state, folder / WEIGHTS)
    return folder


def expanded(folder: Path) -> State:
    target = folder / "expanded"
    expand_codec(folder, target)
    return load_file(target / "model.safetensors")


def assert_same_bits(left: State, right: State) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert right[name].dtype == torch.float32
        assert torch.equal(right[name].view(torch.int32), tensor.float().view(torch.int32)), name


def stored_in(folder: Path) -> tuple[State, dict[str, Any]]:
    """Tensors and shapes of a compact file."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        return load_file(folder / WEIGHTS), json.loads(file.metadata()["shapes"])


def sparse(*shape: int, share: float = 0.1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(shape, generator=generator) < share, torch.randn(shape, generator=generator), 0.0)


def test_every_kind_of_tensor_comes_back_bit_by_bit(tmp_path: Path) -> None:
    odd = torch.zeros(100)
    odd[[3, 50, 99]] = torch.tensor([-0.0, math.inf, 1e-42])
    state = {
        "dense": torch.randn(5, 7, generator=torch.Generator().manual_seed(1)),
        "sparse": sparse(4, 30, 3),
        "rounded": sparse(40, 5).half().float(),
        "zeros": torch.zeros(3, 2, 8),
        "odd": odd,
        "nan": torch.tensor([math.nan, 1.0]),
        "scalar": torch.tensor(3.0),
        "zero": torch.tensor(0.0),
        "empty": torch.zeros(0, 4),
        "tied": odd,
        "transposed": sparse(6, 50).T,
    }
    assert_same_bits(state, expanded(compact(state, tmp_path)))


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -2.5, 0.1, 65_504.0, 65_520.0, 6e-8]), max_size=40),
    st.integers(0, 200),
)
def test_any_mixture_of_zeros_and_numbers_comes_back(
    tmp_path_factory: pytest.TempPathFactory, elements: list[float], zeros: int
) -> None:
    state = {"tensor": torch.tensor([*elements, *[0.0] * zeros])}
    assert_same_bits(state, expanded(compact(state, tmp_path_factory.mktemp("mixture"))))


def test_a_tensor_is_stored_in_its_shorter_form(tmp_path: Path) -> None:
    state = {
        "dense": sparse(1000, share=0.9),
        "half": sparse(1000, share=0.9).half(),
        "sparse": sparse(10, 100),
        "rounded": sparse(10, 100, seed=1).half(),
        "zeros": torch.zeros(1000),
    }
    tensors, shapes = stored_in(compact(state, tmp_path))
    assert shapes == {"sparse": [10, 100], "rounded": [10, 100], "zeros": [1000]}
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "dense": torch.float32,
        "half": torch.float16,
        "sparse.indices": torch.int32,
        "sparse.values": torch.float32,
        "rounded.indices": torch.int32,
        "rounded.values": torch.float16,
    }


def test_a_codec_is_loaded_from_it_like_any_other(tmp_path: Path) -> None:
    original = write_tiny(tmp_path / "tiny")[1]
    state = load_file(original / "model.safetensors")
    state["acoustic_decoder.conv1.weight"][1:] = 0.0
    save_file(state, original / "model.safetensors", {"format": "pt"})
    folder = compact(state, tmp_path / "compact")
    shutil.copy(original / "config.json", folder)
    expand_codec(folder, tmp_path / "expanded")
    codes = torch.randint(0, 1024, (1, 8, 12), generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        AudioCodec.from_folder(path, torch.device("cpu")).decode(codes) for path in (tmp_path / "expanded", original)
    )
    assert torch.equal(ours, theirs)


def test_what_the_format_cannot_hold_is_refused_when_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"steps is torch\.int64; allowed is floating point"):
        write_compact({"steps": torch.arange(3)}, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"a\.values: this format gives the name to a part"):
        write_compact({"a": torch.zeros(9), "a.values": torch.ones(2)}, tmp_path / WEIGHTS)


class TestDamage:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A good one, to spoil."""
        return compact({"dense": torch.ones(3), "sparse": sparse(10, 10)}, tmp_path)

    def spoil(self, folder: Path, *, without: str = "", shapes: Any = None, **tensors: torch.Tensor) -> None:
        """Write the file again with other shapes and tensors; a `__` in a name stands for its point."""
        stored, own_shapes = stored_in(folder)
        stored |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        stored.pop(without, None)
        text = json.dumps(own_shapes if shapes is None else shapes)
        save_file(stored, folder / WEIGHTS, {"shapes": text})

    @pytest.mark.parametrize("file", ["config.json", WEIGHTS])
    def test_a_missing_file_is_refused(self, folder: Path, file: str) -> None:
        (folder / file).unlink()
        with pytest.raises(ModelLoadError, match=r"lacks config\.json or weights\.safetensors; install the package"):
            expanded(folder)

    @pytest.mark.parametrize("bytes_kept", [0, 5, 60, -1])
    def test_a_file_that_is_cut_short_is_refused(self, folder: Path, bytes_kept: int) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[:bytes_kept])
        with pytest.raises(ModelLoadError, match="cannot be unpacked"):
            expanded(folder)

    @pytest.mark.parametrize("metadata", [None, {}, {"shapes": "{"}, {"shapes": "[]"}, {"shapes": "3"}])
    def test_a_file_without_shapes_is_refused(self, folder: Path, metadata: dict[str, str] | None) -> None:
        save_file({"dense": torch.ones(3)}, folder / WEIGHTS, metadata)
        with pytest.raises(ModelLoadError, match="cannot be unpacked"):
            expanded(folder)

    @pytest.mark.parametrize("shape", [[-1], ["a"], None, [2.5], [1 << 60]])
    def test_a_shape_that_no_tensor_has_is_refused(self, folder: Path, shape: Any) -> None:
        self.spoil(folder, shapes={"sparse": shape})
        with pytest.raises(ModelLoadError, match="built-in codec"):
            expanded(folder)

    @pytest.mark.parametrize(
        ("indices", "values"),
        [
            ([0, 100], [1.0, 1.0]),
            ([-1, 5], [1.0, 1.0]),
            ([5, 5], [1.0, 1.0]),
            ([6, 5], [1.0, 1.0]),
            ([1, 2], [1.0]),
            ([[1, 2]], [[1.0, 2.0]]),
            ([1, 2], [3, 4]),
            ([1.0, 2.0], [1.0, 2.0]),
        ],
    )
    def test_indices_and_values_that_do_not_fit_are_refused_by_name(
        self, folder: Path, indices: Any, values: Any
    ) -> None:
        places = torch.tensor(indices)
        if not places.is_floating_point():
            places = places.to(torch.int32)
        self.spoil(folder, sparse__indices=places, sparse__values=torch.tensor(values))
        with pytest.raises(ModelLoadError, match="The built-in codec is damaged at sparse: "):
            expanded(folder)

    @pytest.mark.parametrize("part", ["sparse.indices", "sparse.values"])
    def test_half_of_a_pair_is_refused(self, folder: Path, part: str) -> None:
        self.spoil(folder, without=part)
        with pytest.raises(ModelLoadError, match="damaged at sparse: its indices and values are not of one number"):
            expanded(folder)

    def test_a_tensor_in_both_forms_is_refused(self, folder: Path) -> None:
        self.spoil(folder, sparse=torch.ones(10, 10))
        with pytest.raises(ModelLoadError, match="damaged at sparse: it is both dense and sparse"):
            expanded(folder)

    def test_a_pair_without_a_shape_is_refused(self, folder: Path) -> None:
        self.spoil(folder, shapes={})
        with pytest.raises(ModelLoadError, match=r"damaged at sparse\.indices: it is torch\.int32"):
            expanded(folder)
