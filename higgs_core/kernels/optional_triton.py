"""Triton, if it is installed. A CPU build of torch comes without it; then only the torch functions are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HAS_TRITON", "cdiv", "jit", "jit_for_any_alignment", "power_of_2", "tl", "triton"]

try:
    import triton
    import triton.language as tl

    HAS_TRITON = True
except ImportError:  # the kernels then stay plain functions that are never launched
    triton, tl = None, None
    HAS_TRITON = False


def jit(function: Any) -> Any:
    """`triton.jit` if Triton is installed, else the function as it is."""
    return triton.jit(function) if HAS_TRITON else function


def jit_for_any_alignment(*arguments: str) -> Callable[[Any], Any]:
    """As `jit`, but not compiled again where the addresses of these tensors, or these numbers, are multiples of 16."""

    def decorate(function: Any) -> Any:
        return triton.jit(function, do_not_specialize_on_alignment=arguments) if HAS_TRITON else function

    return decorate


def cdiv(count: int, size: int) -> int:
    """Blocks of `size` that cover `count`."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """The smallest power of two that is at least `count`; Triton's blocks have such sizes."""
    return 1 << max(count - 1, 0).bit_length()
