"""Compares a kernel with the torch function that it replaces, on the device where it is going to run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch

log = logging.getLogger(__name__)

_TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float32: 1e-4, torch.int64: 0.0}
"""Share of a result's largest value, by dtype: a few roundings, far less than an error in a kernel causes."""

_MAX_TOKENS_OFF = 0.01
"""Share of integers that may differ: a draw depends on sums that two implementations may round differently."""

Case = tuple[Any, ...]


def checked(
    name: str, kernel: Callable[..., Any], reference: Callable[..., Any], cases: Iterable[Case]
) -> Callable[..., Any]:
    """`kernel` if it agrees with `reference` in every case, else `reference`, with one warning that names it.

    A case is a tuple of arguments. Results and tensor arguments are compared, as a kernel may write to its arguments.
    """
    try:
        for case in cases:
            difference = _difference(kernel, reference, case)
            if difference:
                break
        else:
            return kernel
    except Exception as error:  # a compiler or a driver may raise anything; the torch function works
        log.debug("Checking the %s kernel failed", name, exc_info=error)
        difference = f"it fails with {type(error).__name__}"
    log.warning("The %s kernel is off: %s; plain torch takes its place, which is slower", name, difference)
    return reference


def _difference(kernel: Callable[..., Any], reference: Callable[..., Any], case: Case) -> str | None:
    """How the kernel's results differ from torch's in one case, as the end of a sentence; None if they agree."""
    got, expected = (_outcome(function, case) for function in (kernel, reference))
    for ours, theirs in zip(got, expected, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"it returns {ours.dtype} {list(ours.shape)} where torch returns {theirs.dtype} {list(theirs.shape)}"
        if not theirs.numel():
            continue
        if not theirs.dtype.is_floating_point:
            off = (ours != theirs).float().mean().item()
            if off > _MAX_TOKENS_OFF:
                return f"{off:.0%} of its numbers differ from torch's"
            continue
        largest = max(theirs.float().abs().max().item(), 1e-6)
        off = (ours.float() - theirs.float()).abs().max().item() / largest
        if not off <= _TOLERANCE[theirs.dtype]:  # true for NaN too
            return f"it is off torch's result by {off:.2g} of its largest value"
    return None


def _outcome(function: Callable[..., Any], case: Case) -> list[torch.Tensor]:
    arguments = [each.clone() if isinstance(each, torch.Tensor) else each for each in case]
    result = function(*arguments)
    results = result if isinstance(result, tuple) else (result,)
    return [each for each in (*results, *arguments) if isinstance(each, torch.Tensor)]
