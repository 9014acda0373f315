"""Mends what Triton 3.6's interpreter does with scalars, kept as arrays of one element, and bf16, kept as its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_patch_tensor = interpreter._patch_lang_tensor
_builder = interpreter.InterpreterBuilder
_dot, _cast = _builder.create_dot, _builder.cast_impl


def _patch_tensor_with_index(tensor: Any, scope: Any) -> None:
    """NumPy 2.4 turns no array of one element into an int any more, which `range` over a loaded bound needs."""
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def _dot_of_numbers(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    """A product of bf16 blocks must not multiply their bits as integers."""
    wide = [self.create_fp_ext(block, tl.float32) if block.dtype == tl.bfloat16 else block for block in (a, b)]
    return _dot(self, *wide, *rest)


def _cast_to_nearest(self: Any, source: Any, kind: Any) -> Any:
    """fp32 and integers become the nearest bf16 (ties to even), as on a GPU, instead of losing their lower bits."""
    if kind.scalar != tl.bfloat16 or not (source.dtype.scalar == tl.float32 or source.dtype.scalar.is_int()):
        return _cast(self, source, kind)
    bits = source.data.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return interpreter.TensorHandle(rounded.astype(np.uint16), kind.scalar)


interpreter._patch_lang_tensor = _patch_tensor_with_index
_builder.create_dot = _dot_of_numbers
_builder.cast_impl = _cast_to_nearest
