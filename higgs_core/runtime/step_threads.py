"""How many threads a decode step uses on a CPU, chosen by measuring steps before the first request.

On a small model a second thread costs more in hand-over than it computes, and the more so on shared cores; with more
rows, or a larger model, it pays. torch's own choice is one thread a core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

_ROUNDS = 5  # of timing; the minimum counts, as other work only ever adds time
_SECONDS = 1.0  # after which no further round begins, for one number of rows
_MIN_GAIN = 0.92  # of the time with fewer threads: a smaller gain is within the noise


class StepThreads:
    """The number of threads by rows. Used by the engine's thread only, whose setting torch keeps apart."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._all = torch.get_num_threads()
        self._chosen: dict[int, int] = {}

    def measure(self, step: Callable[[int], None], rows: tuple[int, ...]) -> dict[int, int]:
        """Time `step`, which runs a step of so many rows, and choose for each of `rows`; returns the choice.

        Nothing is measured, and every step uses all threads, where there is one thread only or where OMP_NUM_THREADS
        says how many.
        """
        if self._all > 1 and "OMP_NUM_THREADS" not in os.environ:
            self._chosen = {count: self._fastest(partial(step, count)) for count in sorted(set(rows))}
            torch.set_num_threads(self._all)
        return dict(self._chosen)

    @contextmanager
    def of_step(self, rows: int) -> Iterator[None]:
        """Inside, torch uses the threads of a step: those of the largest measured number of rows up to `rows`."""
        known = [count for count in self._chosen if count <= rows]
        if not known or self._chosen[max(known)] == self._all:
            yield
            return
        torch.set_num_threads(self._chosen[max(known)])
        try:
            yield
        finally:
            torch.set_num_threads(self._all)  # prefill always has enough to do for all

    def _fastest(self, step: Callable[[], None]) -> int:
        candidates = [1]
        while 2 * candidates[-1] < self._all:
            candidates.append(2 * candidates[-1])
        candidates.append(self._all)
        best = dict.fromkeys(candidates, float("inf"))
        began = self._clock()
        for turn in range(_ROUNDS + 1):
            for threads in candidates:  # in turns, so that other work disturbs all alike
                torch.set_num_threads(threads)
                started = self._clock()
                step()
                if turn:  # the first one warms up
                    best[threads] = min(best[threads], self._clock() - started)
            if turn and self._clock() - began > _SECONDS:
                break
        chosen = candidates[0]
        for threads in candidates[1:]:
            if best[threads] < _MIN_GAIN * best[chosen]:
                chosen = threads
        return chosen
