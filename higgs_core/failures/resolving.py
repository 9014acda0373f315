"""Futures that several threads may resolve: the first one counts. Imports no torch."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def resolve(future: Future[Result], result: Result) -> None:
    """Set the result, unless the future is resolved already."""
    with suppress(InvalidStateError):
        future.set_result(result)


def reject(future: Future[Result], error: BaseException) -> None:
    """Set the exception, unless the future is resolved already."""
    with suppress(InvalidStateError):
        future.set_exception(error)
