"""Keys and values of prompt prefixes that several requests share: the system turn and a voice's reference clips.

An identical prefix is copied into the slot instead of being run through the model. Prefill always stops at the end of
the prefix, cached or not, so a request computes the same either way.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import torch

from higgs_core.model.kv_cache import KVCache
from higgs_core.prompt.layout import Prompt

MIN_PREFIX = 16
"""Positions. Prefilling fewer costs less than the memory for keeping them."""


@dataclass(frozen=True, eq=False)
class _Entry:
    cached: torch.Tensor  # [layers, 2, Hkv, P, D]
    is_audio: torch.Tensor  # bool [P]

    @property
    def nbytes(self) -> int:
        return self.cached.numel() * self.cached.element_size()


class PrefixCache:
    """Bounded in bytes of device memory; least recently used prefixes go first. Used by the engine's thread only."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._nbytes = 0
        self.hits = 0
        self.misses = 0

    def fetch(self, prompt: Prompt, slot: int, cache: KVCache) -> int:
        """Copy the prompt's prefix into the slot if it is known; returns the positions that need no prefill."""
        if prompt.prefix_length < MIN_PREFIX:
            return 0
        key = _fingerprint(prompt)
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return 0
        self._entries.move_to_end(key)
        self.hits += 1
        cache.restore(slot, entry.cached, entry.is_audio)
        return prompt.prefix_length

    def store(self, prompt: Prompt, slot: int, cache: KVCache) -> None:
        """Store the prefix that the slot now holds, unless it is stored or too long."""
        if prompt.prefix_length < MIN_PREFIX:
            return
        key = _fingerprint(prompt)
        if key in self._entries:
            return
        nbytes = cache.nbytes_per_slot_position * prompt.prefix_length
        if nbytes > self._capacity:
            return
        while self._nbytes + nbytes > self._capacity:  # before the copy is made: no more memory is set aside
            self._nbytes -= self._entries.popitem(last=False)[1].nbytes
        entry = _Entry(*cache.store(slot, prompt.prefix_length))
        self._entries[key] = entry
        self._nbytes += entry.nbytes


def _fingerprint(prompt: Prompt) -> bytes:
    length = prompt.prefix_length
    audio = int(prompt.is_audio[:length].sum())
    digest = hashlib.sha256(prompt.positions[:length].numpy().tobytes())
    digest.update(prompt.columns[:, :audio].contiguous().numpy().tobytes())
    return digest.digest()
