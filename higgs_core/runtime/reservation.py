"""A place in the scheduler's waiting queue, held while the prompt is built."""

from __future__ import annotations

from collections.abc import Callable

from higgs_core.runtime.generation import Generation


class Reservation:
    """Use it as a `with` block, which gives the place back if nothing was submitted."""

    def __init__(self, submit: Callable[[Generation], None], release: Callable[[], None]) -> None:
        """submit: takes the place and the generation, or raises; the place is used up then too.  release: gives it
        back."""
        self._submit, self._release = submit, release
        self._held = True

    def submit(self, generation: Generation) -> None:
        """Queue a generation in this place. Raises EngineStoppedError."""
        self._held = False
        self._submit(generation)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._held = False
            self._release()
