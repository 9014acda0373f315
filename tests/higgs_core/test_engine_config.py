"""Loading options: the same defaults everywhere, values that cannot work refused in one sentence, and no torch."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from higgs_core.built_in import TINY
from higgs_core.engine_config import EngineConfig
from higgs_core.errors import ModelLoadError


def test_from_pretrained_takes_every_option_with_its_default() -> None:
    from higgs_core import HiggsAudioEngine

    parameters = inspect.signature(HiggsAudioEngine.from_pretrained).parameters
    assert list(parameters) == [field.name for field in fields(EngineConfig)]
    given = {name: parameter.default for name, parameter in parameters.items() if name != "model"}
    assert EngineConfig("tiny", **given) == EngineConfig("tiny")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0; allowed is 'auto' or at least 1"),
        ({"max_batch_size": "many"}, "max_batch_size is 'many'; allowed is 'auto' or at least 1"),
        ({"max_context": 63}, "max_context is 63; allowed is at least 64"),
        ({"max_waiting": -1}, "max_waiting is -1; allowed is at least 0"),
        ({"dtype": None}, "dtype is None; allowed is 'auto' or one of fp32, float32, fp16"),
        ({"weights": "int4"}, "weights is 'int4'; allowed is 'auto', 'int8' or 'fp8'"),
        ({"dtype": "int8"}, "dtype is 'int8'; allowed is 'auto' or one of fp32, float32, fp16"),
    ],
)
def test_a_value_that_cannot_work_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelLoadError, match=sentence):
        EngineConfig("tiny", **options)


def test_the_least_values_are_allowed() -> None:
    config = EngineConfig("tiny", max_batch_size=1, max_context=64, max_waiting=0, dtype="bf16")
    assert (config.max_batch_size, config.max_context, config.max_waiting, config.dtype) == (1, 64, 0, "bf16")


def test_an_engine_is_loaded_from_a_config() -> None:
    from higgs_core import HiggsAudioEngine

    config = EngineConfig("tiny", device="cpu", dtype="fp16", max_batch_size=2, max_context=128)
    with HiggsAudioEngine.from_config(config) as engine:
        assert (engine.max_batch_size, engine.max_context) == (2, 128)
        assert engine.built_in is TINY
        assert str(engine._parts.weights.norm.dtype) == "torch.float16"
