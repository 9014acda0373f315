"""The static KV cache: one row of positions a slot, allocated once."""

from __future__ import annotations

import torch

from higgs_core.config import ModelConfig


class KVCache:
    """Keys and values of every layer, slot and position.

    keys[layer], values[layer]: [S, Hkv, C + 1, D]. The last is the dummy position: inactive rows of a decode
    step write there, so that every row of a batch can run the same code.
    """

    def __init__(self, config: ModelConfig, slots: int, context: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.num_layers, 2, slots, config.num_kv_heads, context + 1, config.head_dim)
        self._all = torch.zeros(shape, device=device, dtype=dtype)  # zeros: a masked position must not be NaN
        self.keys = [self._all[layer, 0] for layer in range(config.num_layers)]
        self.values = [self._all[layer, 1] for layer in range(config.num_layers)]
        # Which positions hold audio columns: layers that skip audio (`audio_paths`) must not attend to them.
        self.is_audio = torch.zeros(slots, context + 1, device=device, dtype=torch.bool)
        self.slots = slots
        self.context = context

    @property
    def dummy_position(self) -> int:
        """The position that is written but never read."""
        return self.context

    def mark(self, slot: int, start: int, length: int, audio_index: torch.Tensor) -> None:
        """Note which of `length` positions from `start` on hold audio columns. audio_index: int64 [A], from `start`."""
        written = self.is_audio[slot, start : start + length]
        written.fill_(False)
        written.index_fill_(0, audio_index, True)  # assigning by index would make the host wait for a GPU

    def mark_audio(self, slot: int, start: int, stop: int) -> None:
        """Note that decode steps wrote columns to positions start..stop."""
        self.is_audio[slot, start:stop] = True

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Positions 0..length of one slot into another."""
        self._all[:, :, target, :, :length] = self._all[:, :, source, :, :length]
        self.is_audio[target, :length] = self.is_audio[source, :length]

    @property
    def nbytes_per_slot_position(self) -> int:
        return self._all[:, :, 0, :, 0].numel() * self._all.element_size()

    def store(self, slot: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of positions 0..length: [layers, 2, Hkv, length, D] and bool [length]."""
        return self._all[:, :, slot, :, :length].clone(), self.is_audio[slot, :length].clone()

    def restore(self, slot: int, stored: torch.Tensor, is_audio: torch.Tensor) -> None:
        """The inverse of `store`, into any slot; is_audio: bool [length]."""
        length = stored.shape[3]
        self._all[:, :, slot, :, :length] = stored
        self.is_audio[slot, :length] = is_audio

    @staticmethod
    def nbytes_per_position(config: ModelConfig, dtype: torch.dtype) -> int:
        """Bytes of one slot's keys and values at one position, all layers."""
        return config.num_layers * 2 * config.num_kv_heads * config.head_dim * dtype.itemsize
