"""The caller's handle on a generation under way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from higgs_core.runtime.generation import Generation, GenerationResult


class GenerationFuture(Future[GenerationResult]):
    """A generation under way. `cancel` works until the result is there and frees the slot within a few steps."""

    def __init__(self) -> None:
        super().__init__()
        self._generation: Generation | None = None
        self._drop: Callable[[Generation], None] | None = None

    @property
    def columns_generated(self) -> int:
        """Columns spoken so far; 25 make a second of audio."""
        return self._generation.columns_generated if self._generation is not None else 0

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled and self._generation is not None and self._drop is not None:
            self._drop(self._generation)
        return cancelled

    def follow(self, generation: Generation, drop: Callable[[Generation], None]) -> None:
        self._generation, self._drop = generation, drop

    def settle(self, work: Callable[[], GenerationResult]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(work())
        except BaseException as error:
            self.set_exception(error)
