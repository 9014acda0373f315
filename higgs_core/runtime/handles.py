"""What a caller holds while its generation runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from higgs_core.errors import EngineStoppedError
from higgs_core.runtime.generation import Generation, GenerationResult


class GenerationFuture(Future[GenerationResult]):
    """Future of one generation. `cancel` works until the result is there and frees the slot within a few steps."""

    def __init__(self, generation: Generation, cancel_generation: Callable[[Generation], None]) -> None:
        super().__init__()
        self._generation = generation
        self._cancel_generation = cancel_generation

    @property
    def columns_generated(self) -> int:
        """Columns generated so far; 25 make a second of audio."""
        return self._generation.columns_generated

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._cancel_generation(self._generation)
        return cancelled

    def settle(self, work: Callable[[], GenerationResult]) -> None:
        """Resolve with what `work` returns or raises, unless the future was cancelled or is resolved already.

        What ends the thread of `work` is raised again; whoever waits reads EngineStoppedError.
        """
        if self.done() or not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(work())
        except Exception as error:
            self.set_exception(error)
        except BaseException:
            self.set_exception(EngineStoppedError("The engine's thread was ended; this worker is being replaced."))
            raise

    def fail(self, error: BaseException) -> None:
        """Resolve with an error, unless the future was cancelled or is resolved already."""
        if not self.done() and self.set_running_or_notify_cancel():
            self.set_exception(error)
