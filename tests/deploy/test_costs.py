"""The table of GPUs in docs/deployment.md is what its script computes, from figures that hold for this engine."""

from __future__ import annotations

import pytest
import torch

from benchmarks.models import FULL_SIZE
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import allocate
from higgs_core.rates import FRAMES_PER_SECOND
from tests.helpers.pages import page
from tests.helpers.scripts import script

costs = script("deploy/runpod/costs.py")


def test_the_page_has_the_table() -> None:
    assert costs.table() in page("docs/deployment.md")


def test_an_hour_of_speech_costs_what_the_formula_says() -> None:
    card = costs.Card("a card", "POOL", 24, 1000, 1.2, 8)
    assert card.step_seconds == pytest.approx((5.69e9 + 8 * 1000 * 114_688) / 1e12)
    assert card.cost(60.0) == pytest.approx(0.02)  # a minute of work gives an hour of speech
    assert card.cost(60.0, busy_share=0.5) == pytest.approx(0.04)


def test_a_step_reads_what_the_released_model_has() -> None:
    config, meta = FULL_SIZE.config(), torch.device("meta")
    weights = allocate(config, meta, torch.bfloat16, text_head=True)
    assert weights.audio_step_nbytes == pytest.approx(costs.STEP_WEIGHT_BYTES, rel=0.001)
    cache = KVCache(config, 1, 8, meta, torch.bfloat16)
    assert cache.nbytes_per_slot_position == costs.POSITION_BYTES
    assert costs.FRAME_SECONDS * FRAMES_PER_SECOND == 1
