"""Continuous batching: one thread owns the device; requests join and leave between decode steps.

A turn of the loop: take what was submitted, drop what was cancelled, do one piece of prefill or text for each slot
that has to read, enqueue one decode step for all rows that speak, then look at the oldest step that has arrived. On a
GPU a few steps are under way at once, so the host is never between the device and its next step.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future

import torch

from higgs_core.errors import BusyError, DeviceMemoryError, EngineStoppedError, GenerationCancelled, HiggsError
from higgs_core.runtime.decode_loop import DecodeLoop
from higgs_core.runtime.device import on_device
from higgs_core.runtime.generation import Generation

log = logging.getLogger(__name__)

READ_BUDGET = 1024
"""Positions of prompts and text read between two decode steps while somebody is speaking."""


class Scheduler:
    """Bounded waiting queue and slots. Every submitted generation's `finished` future is resolved, whatever happens."""

    def __init__(self, loop: DecodeLoop, *, max_waiting: int) -> None:
        self._loop = loop
        self._max_waiting = max_waiting
        self._wake = threading.Condition()
        self._arrived: deque[Generation] = deque()
        self._waiting: deque[Generation] = deque()
        self._closing = False
        self._failure: EngineStoppedError | None = None
        self._reserved = 0
        self._warm_up: Future[int] | None = None
        self._thread = threading.Thread(target=self._run, name="higgs-engine", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        return self._failure is None and not self._closing and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that were accepted and have no slot yet."""
        return self._reserved + len(self._arrived) + len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._loop.occupied)

    def reserve(self) -> None:
        """Take a place in the waiting queue. Raises BusyError when it is full, EngineStoppedError when nothing runs."""
        with self._wake:
            self._refuse_if_stopped()
            free = self._loop.slots - self.active
            if self.waiting - free >= self._max_waiting:
                raise BusyError(
                    f"The engine is busy: {self.waiting} requests wait and {self.active} are being spoken.",
                    hint="Send the request again in a few seconds.",
                )
            self._reserved += 1

    def release(self) -> None:
        """Give back a place that was reserved and will not be used."""
        with self._wake:
            self._reserved -= 1

    def submit(self, generation: Generation) -> None:
        """Queue a generation whose place was reserved. Raises EngineStoppedError."""
        with self._wake:
            self._reserved -= 1
            self._refuse_if_stopped()
            generation.timeline.queued = time.perf_counter()
            self._arrived.append(generation)
            self._wake.notify()

    def cancel(self, generation: Generation) -> None:
        """Ask for a generation to be dropped; its slot is free a few steps later."""
        with self._wake:
            generation.cancelled = True
            self._wake.notify()

    def warm_up(self) -> None:
        """Let the device's thread capture the usual steps, and wait for it. Raises what went wrong there."""
        done: Future[int] = Future()
        with self._wake:
            self._refuse_if_stopped()
            self._warm_up = done
            self._wake.notify()
        captured = done.result()
        if captured:
            log.info("Captured %d decode steps", captured)

    def close(self) -> None:
        """Stop the thread; whatever is under way ends in EngineStoppedError."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _refuse_if_stopped(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing or not self._thread.is_alive():
            raise EngineStoppedError("The engine has stopped; this worker is being replaced.")

    def _run(self) -> None:
        try:
            with torch.inference_mode(), on_device(self._loop.device):
                while self._take_arrivals():
                    self._turn()
        except torch.cuda.OutOfMemoryError as error:
            self._failure = EngineStoppedError("The device ran out of memory in mid-step; the worker must be replaced.")
            log.error("The engine's thread ended: %s", type(error).__name__, exc_info=error)
        except Exception as error:
            self._failure = EngineStoppedError("The engine failed in mid-step; the worker must be replaced.")
            log.error("The engine's thread ended: %s", type(error).__name__, exc_info=error)
        finally:
            # Also reached when the thread is killed from outside: nobody may be left waiting.
            self._failure = self._failure or EngineStoppedError(
                "The engine has stopped; this worker is being replaced."
            )
            with self._wake:
                left = [*self._loop.unresolved, *self._waiting, *self._arrived]
                self._waiting.clear()
                self._arrived.clear()
            if self._warm_up is not None and not self._warm_up.done():
                self._warm_up.set_exception(self._failure)
            for generation in left:
                _resolve(generation.finished, generation, self._failure)

    def _take_arrivals(self) -> bool:
        """Wait for work if there is none. False when the thread is to end."""
        with self._wake:
            while not (self._closing or self._warm_up or self._arrived or self._waiting or self._loop.busy):
                self._wake.wait()
            self._waiting.extend(self._arrived)
            self._arrived.clear()
            return not self._closing

    def _turn(self) -> None:
        if self._warm_up is not None and not self._loop.busy:
            captured = self._loop.warm_up()  # should it fail, `_run` must still find whom to tell
            asked, self._warm_up = self._warm_up, None
            asked.set_result(captured)
        self._drop_cancelled()
        while self._waiting and self._loop.has_free_slot:
            self._loop.admit(self._waiting.popleft())
        budget = READ_BUDGET if self._loop.speaking else None
        for generation in self._loop.readers():
            if budget is not None and budget <= 0:
                break
            try:
                read = self._loop.read(generation)
                budget = None if budget is None else budget - read
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                self._fail(generation, DeviceMemoryError("The device ran out of memory for this request's prompt."))
            except HiggsError as error:
                self._fail(generation, error)
        self._loop.launch_step()
        for generation in self._loop.collect():
            _resolve(generation.finished, generation, None)

    def _drop_cancelled(self) -> None:
        for generation in [g for g in self._waiting if g.cancelled]:
            self._waiting.remove(generation)
            _resolve(generation.finished, generation, GenerationCancelled("The request was cancelled."))
        for generation in [g for g in self._loop.occupied if g.cancelled]:
            self._fail(generation, GenerationCancelled("The request was cancelled."))

    def _fail(self, generation: Generation, error: HiggsError) -> None:
        self._loop.release(generation)
        _resolve(generation.finished, generation, error)


def _resolve(future: Future[Generation], generation: Generation, error: HiggsError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(generation)
    else:
        future.set_exception(error)
