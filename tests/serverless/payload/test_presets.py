"""Presets of sampling: what they set, and that a field of the request wins."""

from __future__ import annotations

import pytest

from higgs_core.params import GenerationParams
from serverless.config.settings import Settings
from serverless.payload.presets import PRESETS
from tests.helpers.parsing import parsed, refusal

OTHER_SETTINGS = Settings(temperature=0.9, top_p=0.5, top_k=7, ras_win_len=3, ras_win_max_num_repeat=5)


def sampling(params: GenerationParams) -> tuple[object, ...]:
    return params.temperature, params.top_p, params.top_k, params.ras_win_len, params.ras_win_max_num_repeat


def test_speech_is_the_default_and_leaves_the_workers_settings_in_force() -> None:
    for settings in (Settings(), OTHER_SETTINGS):
        without = parsed(settings=settings).request.params
        assert parsed(settings=settings, preset="speech").request.params == without
    assert sampling(without) == (0.9, 0.5, 7, 3, 5)


@pytest.mark.parametrize("name", ["music", "humming"])
def test_music_and_humming_turn_ras_off_whatever_the_worker_is_set_to(name: str) -> None:
    params = parsed(settings=OTHER_SETTINGS, preset=name).request.params
    assert params.ras_window == 0
    assert sampling(params)[:3] == (1.0, 0.95, 50)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"speech"}))
def test_a_preset_does_not_depend_on_the_worker_and_a_field_that_is_sent_wins(name: str) -> None:
    assert (
        sampling(parsed(preset=name).request.params)[:4]
        == sampling(parsed(settings=OTHER_SETTINGS, preset=name).request.params)[:4]
    )
    sent = {"temperature": 0.45, "top_p": None, "top_k": 0, "ras_win_len": 5, "ras_win_max_num_repeat": 9}
    assert sampling(parsed(preset=name, **sent).request.params) == (0.45, None, None, 5, 9)
    one = parsed(preset=name, temperature=0.45).request.params
    assert one.temperature == 0.45
    assert one.top_k == parsed(preset=name).request.params.top_k


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    error = refusal({"script": "Hi.", "preset": "opera"})
    assert error.field == "preset"
    assert error.message == "preset is 'opera'; allowed is speech, expressive, stable, music or humming."
    assert refusal({"script": "Hi.", "preset": 5}).field == "preset"
