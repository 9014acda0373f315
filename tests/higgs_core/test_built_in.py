"""What is said of the built-in checkpoints: one plain sentence each, under the name by which they are loaded."""

from __future__ import annotations

import pytest

from higgs_core.built_in import BUILT_IN, DEMO, TINY, BuiltIn


@pytest.mark.parametrize("checkpoint", BUILT_IN.values(), ids=BUILT_IN)
def test_a_response_names_the_checkpoint_in_one_sentence(checkpoint: BuiltIn) -> None:
    assert f"built-in {checkpoint.name} checkpoint" in checkpoint.notice
    assert checkpoint.notice.endswith(".")
    assert ". " not in checkpoint.notice


def test_the_names_are_those_of_the_command_line() -> None:
    assert {"demo": DEMO, "tiny": TINY} == BUILT_IN


def test_only_the_one_that_was_never_trained_is_noise() -> None:
    assert [checkpoint.name for checkpoint in BUILT_IN.values() if checkpoint.random_weights] == ["tiny"]
    assert "noise" in TINY.notice
    assert "Higgs Audio v2 sounds far better" in DEMO.notice


def test_the_description_is_the_notice_and_what_it_cannot_do() -> None:
    assert TINY.description == TINY.notice
    assert DEMO.description == f"{DEMO.notice} {DEMO.limits}"
    for word in ("English", "emotions", "music", "laughter", "clone"):
        assert word in DEMO.limits
