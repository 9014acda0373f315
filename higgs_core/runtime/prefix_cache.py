"""KV of prompt prefixes that come again: the system turn and the reference clips of a voice.

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

SHORTEST_PREFIX = 16  # positions; below it a copy is not worth its place


@dataclass(frozen=True, eq=False)
class _Kept:
    cached: torch.Tensor  # [layers, 2, Hkv, P, D]
    is_audio: torch.Tensor  # bool [P]

    @property
    def nbytes(self) -> int:
        return self.cached.numel() * self.cached.element_size()


class PrefixCache:
    """Least recently used prefixes, bounded in bytes of device memory. Used by the scheduler's thread only."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._nbytes = 0
        self.hits = 0
        self.misses = 0

    def fetch(self, prompt: Prompt, slot: int, cache: KVCache) -> int:
        """Copy the prompt's prefix into the slot if it is known; returns the positions that need no prefill."""
        if prompt.prefix_length < SHORTEST_PREFIX:
            return 0
        key = _fingerprint(prompt)
        kept = self._kept.get(key)
        if kept is None:
            self.misses += 1
            return 0
        self._kept.move_to_end(key)
        self.hits += 1
        cache.restore(slot, kept.cached, kept.is_audio)
        return prompt.prefix_length

    def keep(self, prompt: Prompt, slot: int, cache: KVCache) -> None:
        """Remember the prefix that the slot now holds."""
        if prompt.prefix_length < SHORTEST_PREFIX:
            return
        key = _fingerprint(prompt)
        if key in self._kept:
            return
        if cache.nbytes_per_slot_position * prompt.prefix_length > self._capacity:
            return
        kept = _Kept(*cache.store(slot, prompt.prefix_length))
        self._kept[key] = kept
        self._nbytes += kept.nbytes
        while self._nbytes > self._capacity:
            self._nbytes -= self._kept.popitem(last=False)[1].nbytes


def _fingerprint(prompt: Prompt) -> bytes:
    length = prompt.prefix_length
    audio = int(prompt.is_audio[:length].sum())
    digest = hashlib.sha256(prompt.positions[:length].numpy().tobytes())
    digest.update(prompt.columns[:, :audio].contiguous().numpy().tobytes())
    return digest.digest()
