"""A generation that is waited for, with the interface of a stream. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import GenerationCancelled

if TYPE_CHECKING:
    from higgs_core.engine import GenerationFuture, GenerationResult

_NO_AUDIO = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class EmptyChunk:
    """What the wait gives in place of a chunk of audio."""

    audio: NDArray[np.float32]


class WholeGeneration:
    """A generation that is waited for, with the interface of an AudioStream: its chunks are empty.

    interval: seconds from one chunk to the next, None for no chunk at all.
    """

    def __init__(self, future: GenerationFuture, interval: float | None) -> None:
        self._future = future
        self._interval = interval
        self.result: GenerationResult | None = None

    def __iter__(self) -> Iterator[EmptyChunk]:
        """Raises what the generation raised, GenerationCancelled if it was cancelled."""
        while not self._wait():
            yield EmptyChunk(_NO_AUDIO)
        self.result = self._future.result()

    def _wait(self) -> bool:
        """Whether it has ended by the end of the interval."""
        try:
            self._future.exception(self._interval)
        except TimeoutError:
            return False
        except CancelledError:
            raise GenerationCancelled("The request was cancelled.") from None
        return True

    @property
    def columns_generated(self) -> int:
        return self._future.columns_generated

    @property
    def has_ended(self) -> bool:
        return self._future.done()

    def close(self) -> None:
        """Stop generating; nothing happens once the result is there."""
        self._future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
