"""The static KV cache: one row of positions a slot, allocated once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from higgs_core.config import ModelConfig


@dataclass(frozen=True, eq=False)
class StoredPositions:
    """A copy of the first P positions of a slot. is_audio: bool [P], None where the cache keeps none."""

    cached: torch.Tensor  # [layers, 2, Hkv, P, D]
    is_audio: torch.Tensor | None

    @property
    def length(self) -> int:
        return self.cached.shape[3]

    @property
    def nbytes(self) -> int:
        return self.cached.nbytes


class KVCache:
    """Keys and values of every layer, slot and position.

    keys[layer], values[layer]: [S, Hkv, C + 1, D]; both[layer]: [2, S, Hkv, C + 1, D], the keys first. The last
    position is the dummy: inactive rows of a decode step write there, so that every row of a batch can run the same
    code.
    is_audio: bool [S, C + 1], which positions hold audio columns; layers that skip audio (`audio_paths`) must not
    attend to them. None where no layer does.
    """

    def __init__(self, config: ModelConfig, slots: int, context: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.num_layers, 2, slots, config.num_kv_heads, context + 1, config.head_dim)
        self._all = torch.zeros(shape, device=device, dtype=dtype)  # zeros: a masked position must not be NaN
        self.both = list(self._all)
        self.keys = [both[0] for both in self.both]
        self.values = [both[1] for both in self.both]
        self.is_audio = (
            torch.zeros(slots, context + 1, device=device, dtype=torch.bool) if config.has_skip_layers else None
        )
        self.slots = slots
        self.context = context

    @property
    def dummy_position(self) -> int:
        """The position that is written but never read."""
        return self.context

    def mark_audio(self, slot: int, start: int, stop: int) -> None:
        """Note that decode steps wrote columns to positions start..stop."""
        if self.is_audio is not None:
            self.is_audio[slot, start:stop].fill_(True)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Positions 0..length of one slot into another."""
        self._all[:, :, target, :, :length] = self._all[:, :, source, :, :length]
        if self.is_audio is not None:
            self.is_audio[target, :length] = self.is_audio[source, :length]

    @property
    def nbytes_per_slot_position(self) -> int:
        return self._all[:, :, 0, :, 0].numel() * self._all.element_size()

    def store(self, slot: int, length: int) -> StoredPositions:
        """A copy of positions 0..length."""
        is_audio = None if self.is_audio is None else self.is_audio[slot, :length].clone()
        return StoredPositions(self._all[:, :, slot, :, :length].clone(), is_audio)

    def restore(self, slot: int, stored: StoredPositions) -> None:
        """The inverse of `store`, into any slot."""
        self._all[:, :, slot, :, : stored.length] = stored.cached
        if self.is_audio is not None and stored.is_audio is not None:
            self.is_audio[slot, : stored.length] = stored.is_audio

    @staticmethod
    def nbytes_per_position(config: ModelConfig, dtype: torch.dtype) -> int:
        """Bytes of one slot's keys and values at one position, all layers."""
        return config.num_layers * 2 * config.num_kv_heads * config.head_dim * dtype.itemsize
