"""Compares a kernel with the torch function that it replaces, on the device where it is going to run.

Both are held to the torch function in fp32: a kernel may be hardly less exact than torch is in the model's dtype.
Errors are measured in every vector of a result by itself (its last dimension: a row, or a head of a row), so that no
large vector hides a wrong small one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from higgs_core.kernels.linear.quantized_weight import QuantizedWeight

log = logging.getLogger(__name__)

_FACTOR = 1.5
"""How many times torch's own error a kernel's may be: sums in another order, and chance in short vectors."""

_FLOOR = {torch.bfloat16: 2e-3, torch.float16: 3e-4, torch.float32: 2e-5}
"""Error that is always allowed, by dtype: about one rounding, for results that torch happens to get exactly."""

_MAX_TOKENS_OFF = 0.01
"""Share of integers that may differ: a draw depends on sums that two implementations may round differently."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """Arguments of one call.  writes: the numbers of those that the function overwrites; the others stay unchanged."""

    arguments: tuple[Any, ...]
    writes: tuple[int, ...] = ()


def checked(
    name: str, kernel: Function, reference: Function, cases: Iterable[Case], *, exact: Function | None = None
) -> Function:
    """`kernel` if it agrees with `reference` in every case, else `reference`, with one warning that names it.

    What is compared are results and the arguments that are written to. exact: takes a case's arguments in fp32 and
    returns what `reference` would; for a function whose arguments are too large for a copy in fp32, it takes them as
    they are. By default `reference` itself.
    """
    try:
        for case in cases:
            difference = _difference(kernel, reference, exact, case)
            if difference:
                break
        else:
            return kernel
    except Exception as error:  # a compiler or a driver may raise anything; the torch function works
        log.debug("Checking the %s kernel failed", name, exc_info=error)
        difference = f"it fails with {type(error).__name__}"
    log.warning("The %s kernel is off: %s; plain torch takes its place, which is slower", name, difference)
    return reference


def _difference(kernel: Function, reference: Function, exact: Function | None, case: Case) -> str | None:
    """How the kernel's results differ from torch's in one case, as the end of a sentence; None if they agree."""
    before = _fingerprints(case)
    got = _outcome(kernel, case)
    if _fingerprints(case) != before:
        return "it writes to an argument that torch only reads"
    expected = _outcome(reference, case)
    if len(got) != len(expected):
        return f"it returns {len(got)} tensors where torch returns {len(expected)}"
    for ours, theirs in zip(got, expected, strict=True):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"it returns {ours.dtype} {list(ours.shape)} where torch returns {theirs.dtype} {list(theirs.shape)}"
        if not theirs.dtype.is_floating_point and theirs.numel():
            off = (ours != theirs).float().mean().item()
            if off > _MAX_TOKENS_OFF:
                return f"{off:.0%} of its numbers differ from torch's"
    if not any(theirs.dtype.is_floating_point for theirs in expected):
        return None
    truth = _outcome(exact, case) if exact else _outcome(reference, _in_fp32(case))
    return next(filter(None, map(_float_difference, got, expected, truth)), None)


def _float_difference(ours: torch.Tensor, theirs: torch.Tensor, truth: torch.Tensor) -> str | None:
    if not theirs.dtype.is_floating_point or not theirs.numel():
        return None
    length = truth.norm(dim=-1)
    our_error, their_error = ((result.float() - truth).norm(dim=-1) for result in (ours, theirs))
    agree = our_error <= _FACTOR * their_error + _FLOOR[theirs.dtype] * length  # false for NaN
    if agree.all():
        return None
    off, torch_off = (torch.where(agree, 0, error / length).max().item() for error in (our_error, their_error))
    return f"it is off the exact result by {off:.2g} of a vector's length, torch's result by {torch_off:.2g}"


def _outcome(function: Function, case: Case) -> list[torch.Tensor]:
    """What the function returns, then the arguments that it overwrites, which are copies."""
    arguments = [each.clone() if number in case.writes else each for number, each in enumerate(case.arguments)]
    result = function(*arguments)
    results = result if isinstance(result, tuple) else (result,)
    tensors = [each for each in results if isinstance(each, torch.Tensor)]
    return [*tensors, *(arguments[number] for number in case.writes)]


def _in_fp32(case: Case) -> Case:
    """The case with its tensors of the model's dtype in fp32; a quantised weight gives its dtype by itself."""
    wide = (
        each.float() if isinstance(each, torch.Tensor) and each.is_floating_point() else each for each in case.arguments
    )
    return Case(tuple(wide), case.writes)


def _fingerprints(case: Case) -> list[int]:
    """Of each tensor that is only read: the sum of its bytes, taken as integers, which costs no copy of it."""
    sums = []
    for number, argument in enumerate(case.arguments):
        parts = (argument.values, argument.scales) if isinstance(argument, QuantizedWeight) else (argument,)
        for part in parts:
            if isinstance(part, torch.Tensor) and number not in case.writes:
                sums.append(_fingerprint(part))
    return sums


def _fingerprint(tensor: torch.Tensor) -> int:
    content = tensor.contiguous().view(-1).view(torch.uint8)
    if content.storage_offset() % 8:
        content = content.clone()
    whole = content.shape[0] // 8 * 8
    return int(content[:whole].view(torch.int64).sum()) + int(content[whole:].sum())
