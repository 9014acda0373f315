"""Where Triton comes from. A CPU build of torch ships without it, and then only the torch functions are used."""

from __future__ import annotations

from typing import Any

__all__ = ["HAS_TRITON", "cdiv", "jit", "power_of_2", "tl", "triton"]

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


def cdiv(count: int, size: int) -> int:
    """Blocks of `size` that cover `count`."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """The smallest power of two that is at least `count`; Triton's blocks have such sizes."""
    return 1 << max(count - 1, 0).bit_length()
