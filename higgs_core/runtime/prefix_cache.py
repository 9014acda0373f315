"""Keys and values of prompt prefixes that several requests share: the system turn and a voice's reference clips.

An identical prefix is copied into the slot instead of being run through the model. Prefill always stops at the end of
the prefix, cached or not, so a request computes the same either way.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.model.kv_cache import KVCache, StoredPositions
from higgs_core.prompt.layout import Prompt

log = logging.getLogger(__name__)

MIN_PREFIX = 16
"""Positions. Prefilling fewer costs less than the memory for keeping them."""


class PrefixCache:
    """Bounded in bytes of device memory; least recently used prefixes go first. Used by the engine's thread only."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[bytes, StoredPositions] = OrderedDict()
        self._nbytes = 0
        self.hits = 0
        self.misses = 0

    def may_hold(self, prompt: Prompt, cache: KVCache) -> bool:
        """Whether the prompt's prefix is one that is stored once it was prefilled."""
        return MIN_PREFIX <= prompt.prefix_length <= self._capacity // cache.nbytes_per_slot_position

    def fetch(self, prompt: Prompt, slot: int, cache: KVCache) -> int:
        """Copy the prompt's prefix into the slot if it is known; returns the positions that need no prefill."""
        if prompt.prefix_length < MIN_PREFIX:
            return 0
        entry = self._entries.get(prompt.prefix_fingerprint)
        if entry is None:
            self.misses += 1
            return 0
        self._entries.move_to_end(prompt.prefix_fingerprint)
        self.hits += 1
        cache.restore(slot, entry)
        return prompt.prefix_length

    def store(self, prompt: Prompt, slot: int, cache: KVCache) -> None:
        """Store the prefix that the slot now holds, unless it is stored, too long, or memory is short."""
        key = prompt.prefix_fingerprint
        if key in self._entries or not self.may_hold(prompt, cache):
            return
        # Room is made first, so that the bytes never exceed the capacity.
        while self._nbytes + cache.nbytes_per_slot_position * prompt.prefix_length > self._capacity:
            self._nbytes -= self._entries.popitem(last=False)[1].nbytes
        try:
            entry = cache.store(slot, prompt.prefix_length)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The device has no memory to keep a prompt's prefix of %d positions", prompt.prefix_length)
            return
        self._entries[key] = entry
        self._nbytes += entry.nbytes

    def clear(self) -> None:
        """Give up everything that is stored."""
        self._entries.clear()
        self._nbytes = 0
