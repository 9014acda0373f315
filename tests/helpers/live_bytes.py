"""Counts the bytes of the tensors that are alive while code runs, also of tensors without data (FakeTensorMode)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BLOCK = 512  # what torch's allocator rounds up to on a GPU


class LiveBytes(TorchDispatchMode):
    """peak: the most bytes that lived at once of what operations inside the block allocated. What was there before, and
    what an operation allocates and frees within itself, is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._storages: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._storages.setdefault(tensor.untyped_storage()._cdata, 0)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._storages:
                nbytes = -(-storage.nbytes() // _BLOCK) * _BLOCK
                self._storages[storage._cdata] = nbytes
                self._now += nbytes
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._freed, storage._cdata)
        return result

    def _freed(self, storage: int) -> None:
        self._now -= self._storages.pop(storage, 0)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
