"""The prefix cache never holds more than its share of the device's memory, not even while it stores."""

from __future__ import annotations

import pytest
import torch

from benchmarks.models import SMALLEST
from higgs_core.model.kv_cache import KVCache
from higgs_core.prompt.layout import Prompt
from higgs_core.runtime.prefix_cache import PrefixCache
from tests.helpers.live_bytes import LiveBytes

CPU = torch.device("cpu")


def prompt(first: int, prefix: int) -> Prompt:
    """A prompt that begins with the token `first`."""
    positions = torch.full((prefix + 1,), first)
    columns = torch.empty(8, 0, dtype=torch.long)
    return Prompt([], positions, torch.zeros(prefix + 1, dtype=torch.bool), columns, columns, prefix)


@pytest.fixture
def kv_cache() -> KVCache:
    return KVCache(SMALLEST.config(), 1, 256, CPU, torch.float32)


def test_room_is_made_before_a_prefix_is_copied(kv_cache: KVCache) -> None:
    capacity = 100 * kv_cache.nbytes_per_slot_position
    prefixes = PrefixCache(capacity)
    with LiveBytes() as live:
        for first in range(6):
            prefixes.store(prompt(first, 60), 0, kv_cache)
    assert live.peak <= capacity * 1.02  # which positions hold audio, and blocks, come on top
    assert prefixes.fetch(prompt(5, 60), 0, kv_cache) == 60
    assert prefixes.fetch(prompt(4, 60), 0, kv_cache) == 0


def test_what_was_used_least_recently_goes_first_and_what_is_too_long_drives_nobody_out(kv_cache: KVCache) -> None:
    prefixes = PrefixCache(100 * kv_cache.nbytes_per_slot_position)
    for first in (1, 2):
        prefixes.store(prompt(first, 50), 0, kv_cache)
    assert prefixes.fetch(prompt(1, 50), 0, kv_cache) == 50
    prefixes.store(prompt(3, 101), 0, kv_cache)
    prefixes.store(prompt(4, 40), 0, kv_cache)
    assert [prefixes.fetch(prompt(first, n), 0, kv_cache) for first, n in ((1, 50), (2, 50), (3, 101), (4, 40))] == [
        *(50, 0, 0, 40)
    ]
