"""Sampling controls: documented defaults, ranges that are refused in one sentence, and no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from higgs_core.errors import RequestError
from higgs_core.params import MAX_RAS_WINDOW, MAX_SEED, MAX_STOP_STRINGS, GenerationParams
from tests.helpers.patience import PATIENCE


def made_unless_refused(**given: Any) -> GenerationParams | None:
    try:
        return GenerationParams(**given)
    except RequestError:
        return None


def test_defaults_are_bosons() -> None:
    params = GenerationParams()
    assert (params.temperature, params.top_p, params.top_k) == (0.3, 0.95, 50)
    assert (params.ras_win_len, params.ras_win_max_num_repeat, params.max_new_tokens) == (7, 2, 1024)
    assert params.stop_strings == ("<|end_of_text|>", "<|eot_id|>")
    assert params.seed is None
    assert params.force_audio_gen is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", -5),
        ("temperature", -0.1),
        ("temperature", 10.01),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", -1.0),
        ("top_p", 1.0001),
        ("top_p", float("nan")),
        ("top_k", -2),
        ("ras_win_len", MAX_RAS_WINDOW + 1),
        ("ras_win_max_num_repeat", 0),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("stop_strings", ("",)),
        ("stop_strings", ("a", 3)),
        ("stop_strings", ("a",) * (MAX_STOP_STRINGS + 1)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as refused:
        GenerationParams(**{field: value})
    assert refused.value.field == field
    sentence = refused.value.message
    assert sentence.startswith(f"{field} is ")
    assert "allowed is" in sentence
    assert "\n" not in sentence
    if field != "stop_strings":  # words of the client are not repeated
        assert str(value) in sentence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 1),
        ("temperature", 0),
        ("temperature", 10),
        ("top_p", 1.0),
        ("top_p", 1e-9),
        ("top_p", None),
        ("top_k", 1),
        ("top_k", None),
        ("ras_win_len", MAX_RAS_WINDOW),
        ("ras_win_len", -7),
        ("ras_win_len", None),
        ("seed", 0),
        ("seed", MAX_SEED),
        ("stop_strings", ()),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(field: str, value: Any) -> None:
    assert getattr(GenerationParams(**{field: value}), field) == value


@pytest.mark.parametrize("value", [0, -1])
def test_a_top_k_of_0_or_minus_1_is_off_as_in_other_servers(value: int) -> None:
    assert GenerationParams(top_k=value) == GenerationParams(top_k=None)


@pytest.mark.parametrize(("length", "window"), [(None, 0), (0, 0), (-1, 0), (1, 1), (7, 7), (64, 64)])
def test_the_window_of_ras_is_0_when_it_is_off(length: int | None, window: int) -> None:
    assert GenerationParams(ras_win_len=length).ras_window == window


def test_stop_strings_may_come_as_a_list_and_are_kept_as_a_tuple() -> None:
    params = GenerationParams(stop_strings=["a", "bc"])  # type: ignore[arg-type]
    assert params.stop_strings == ("a", "bc")
    assert hash(params) == hash(GenerationParams(stop_strings=("a", "bc")))


def test_a_bare_stop_string_is_one_stop_string_or_refused() -> None:
    """Taken letter by letter it would end nearly every text at once."""
    params = made_unless_refused(stop_strings="END")
    assert params is None or params.stop_strings == ("END",)


def test_params_cannot_be_changed_behind_the_engines_back() -> None:
    with pytest.raises(FrozenInstanceError):
        GenerationParams().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("field", ["ras_win_max_num_repeat", "top_k", "max_new_tokens"])
def test_a_count_too_large_for_the_device_is_refused_or_harmless(field: str) -> None:
    """The engine's thread writes these into int64 tensors, where an overflow would end it for everybody."""
    import torch

    from higgs_core.sampling.sampler import SamplerRows

    params = made_unless_refused(**{field: 10**30})
    if params is not None:
        SamplerRows.allocate(1, torch.device("cpu")).set(0, params, 0)


def test_importing_params_imports_no_torch() -> None:
    check = "import sys, higgs_core.params; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False, timeout=PATIENCE).returncode == 0
