"""Fixtures that several suites share. Everything here runs on a CPU and needs no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: a second thread costs more than it gives
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
from hypothesis import HealthCheck, settings

# An example may take as long as a busy machine needs for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if TYPE_CHECKING:
    from higgs_core import HiggsAudioEngine


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[HiggsAudioEngine]:
    """The built-in random checkpoint, 8 slots, on the CPU in fp32."""
    from higgs_core import HiggsAudioEngine

    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=8, max_context=4096) as engine:
        yield engine
