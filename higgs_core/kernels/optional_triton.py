"""Where Triton comes from. A CPU build of torch ships without it, and then only the torch functions are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["HAS_TRITON", "cdiv", "jit", "jit_for_any_alignment", "power_of_2", "tl", "triton"]

try:
    import triton
    import triton.language as tl

    HAS_TRITON = True
except ImportError:  # the kernels below stay plain functions that nobody launches
    triton, tl = None, None
    HAS_TRITON = False


def jit(function: Any) -> Any:
    """`triton.jit` where there is Triton."""
    return triton.jit(function) if HAS_TRITON else function


def jit_for_any_alignment(*tensors: str) -> Callable[[Any], Any]:
    """As `jit`, with one compilation for all addresses that these arguments may have."""

    def decorate(function: Any) -> Any:
        return triton.jit(function, do_not_specialize_on_alignment=tensors) if HAS_TRITON else function

    return decorate


def cdiv(count: int, size: int) -> int:
    """Blocks of `size` that cover `count`."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """The smallest power of two that is at least `count`; Triton's blocks have such sizes."""
    return 1 << max(count - 1, 0).bit_length()
