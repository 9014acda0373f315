"""The line of the log with the seconds of a start, and what a start that fails leaves."""

from __future__ import annotations

import logging
import re

import pytest

from higgs_core.errors import ModelLoadError
from serverless.config.settings import Settings
from serverless.service.boot import boot_engine

STAGES = (
    "device",
    "files",
    "tokenizer",
    "weights",
    "codec",
    "kernels",
    "memory",
    "steps",
    "codec_warm_up",
    "first_stream",
)


def test_one_line_has_the_seconds_of_each_stage(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "serverless"),
        boot_engine(Settings(model_id="tiny", device="cpu", max_concurrency=2)),
    ):
        pass
    (line,) = [message for message in caplog.messages if message.startswith("seconds of the start: ")]
    seconds = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", line)}
    assert list(seconds)[-len(STAGES) - 1 :] == [*STAGES, "total"]
    assert list(seconds)[: -len(STAGES) - 1] in (["entry_point", "imports"], ["imports"])
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"], abs=0.1)


def test_a_model_that_is_not_there_is_named_with_a_remedy() -> None:
    with pytest.raises(ModelLoadError, match="neither a folder here nor a hub id"):
        boot_engine(Settings(model_id="not-there", device="cpu"))
