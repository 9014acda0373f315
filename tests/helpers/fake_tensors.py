"""Tensors with shapes and without data, so that code runs in the sizes of the released model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@contextmanager
def fake_tensors() -> Iterator[FakeTensorMode]:
    """Every tensor that is made inside has no data. The constants that kernels keep are made anew on both sides of the
    block, so that no tensor crosses its border."""
    _forget_constants()
    try:
        with FakeTensorMode() as mode, torch.inference_mode():
            yield mode
    finally:
        _forget_constants()


def _forget_constants() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("higgs_core.kernels."):
            for function in vars(module).values():
                if hasattr(function, "cache_clear"):
                    function.cache_clear()
