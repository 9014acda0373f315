"""Continuous batching: one thread owns the device; requests join and leave between decode steps.

A turn of its loop: schedule (drop who was cancelled, give free slots to who waits), run (prefill within a budget, then
launch a text step for all rows that write and a decode step for all that speak), postprocess (take in the outputs that
have arrived). Several steps stay queued so that the GPU never idles. All steps are captured before the first request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress

import torch

from higgs_core.errors import BusyError, EngineStoppedError, GenerationCancelled, HiggsError
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.failures.failure_latch import FailureLatch
from higgs_core.failures.resolving import reject, resolve
from higgs_core.failures.watchdog import Heartbeat, Watched
from higgs_core.runtime.device import engine_stream
from higgs_core.runtime.device_work import DeviceWork
from higgs_core.runtime.generation import Generation, Status
from higgs_core.runtime.postprocess import Postprocess
from higgs_core.runtime.reservation import Reservation
from higgs_core.runtime.slots import Slots

log = logging.getLogger(__name__)

_STOPPED = "The engine has stopped; this worker is being replaced."
_STUCK_SECONDS = 1.0  # that a thread gets to end once the engine has failed


class Scheduler:
    """Bounded waiting queue and slots. Every submitted generation's `finished` future is resolved, whatever happens.

    By the engine's thread as a rule; by whoever trips the latch, or closes, when that thread hangs. The first one
    counts: what a thread that hung brings later is dropped.
    """

    def __init__(
        self,
        slots: Slots,
        work: DeviceWork,
        postprocess: Postprocess,
        device: torch.device,
        *,
        max_waiting: int,
        heartbeat: Heartbeat,
        failure: FailureLatch,
    ) -> None:
        """heartbeat: of the engine's thread.  failure: of the whole engine; tripped when the thread ends unasked."""
        self._slots = slots
        self._work = work
        self._postprocess = postprocess
        self._device = device
        self._max_waiting = max_waiting
        self._wake = threading.Condition()
        self._arrived: deque[Generation] = deque()
        self._waiting: deque[Generation] = deque()
        self._unresolved: set[Generation] = set()  # from `submit` until `finished` is resolved
        self._cancelled: set[Generation] = set()  # asked for by any thread, taken up by the engine's
        self._closing = False
        self._heartbeat = heartbeat
        self._failure = failure
        self._reserved = 0
        self._asked_to_warm_up = False
        self._warm: Future[None] = Future()  # resolved before the first request gets a slot
        self._thread = threading.Thread(target=self._run, name="higgs-engine", daemon=True)
        self._thread.start()
        failure.on_trip(self._reject_all)

    @property
    def healthy(self) -> bool:
        return not self._failure.tripped and not self._closing and self._thread.is_alive()

    @property
    def watched(self) -> Watched:
        """Its thread, for a watchdog."""
        return Watched("engine", self._thread, self._heartbeat, lambda: self._lost)

    @property
    def _lost(self) -> bool:
        return not self._closing and not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Requests that were accepted and have no slot yet."""
        return self._reserved + len(self._arrived) + len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._slots.occupied)

    def reserve(self) -> Reservation:
        """Take a place in the waiting queue before the prompt is built, which is slow.

        Raises BusyError when the queue is full and EngineStoppedError when the thread has ended.
        """
        with self._wake:
            self._refuse_if_stopped()
            free = self._slots.count - self.active
            if self.waiting - free >= self._max_waiting:
                raise BusyError(
                    f"The engine is busy: {self.waiting} requests wait and {self.active} are being spoken.",
                    hint="Send the request again in a few seconds.",
                )
            self._reserved += 1
        return Reservation(self._submit_reserved, self._release_reserved)

    def cancel(self, generation: Generation) -> None:
        """Ask for a generation to be dropped; its slot is free a few steps later."""
        with self._wake:
            if generation in self._unresolved:
                self._cancelled.add(generation)
                self._wake.notify()

    def warm_up(self) -> None:
        """Let the engine's thread capture its steps, and wait for it. Raises EngineStoppedError."""
        with self._wake:
            self._refuse_if_stopped()
            self._asked_to_warm_up = True
            self._wake.notify()
        self._warm.result()

    def close(self, timeout: float | None = None) -> bool:
        """Stop the thread; whatever is under way ends in EngineStoppedError. Returns whether the thread has ended.

        timeout: seconds to wait for it; one that hangs is left behind.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is threading.current_thread():
            return True
        self._thread.join(_STUCK_SECONDS if self._failure.tripped else timeout)
        if self._thread.is_alive():
            log.error("The engine's thread did not end; it is left behind")
            self._reject_all(EngineStoppedError(_STOPPED))
        return not self._thread.is_alive()

    def _submit_reserved(self, generation: Generation) -> None:
        with self._wake:
            self._reserved -= 1
            self._refuse_if_stopped()
            generation.timeline.queued = time.perf_counter()
            self._unresolved.add(generation)
            self._arrived.append(generation)
            self._wake.notify()

    def _release_reserved(self) -> None:
        with self._wake:
            self._reserved -= 1

    def _refuse_if_stopped(self) -> None:
        if (failure := self._failure.error) is not None:
            raise failure
        if self._closing or not self._thread.is_alive():
            raise EngineStoppedError(_STOPPED)

    def _run(self) -> None:
        try:
            with torch.inference_mode(), engine_stream(self._device):
                while (cancelled := self._take_requests()) is not None:
                    self._heartbeat.beat()
                    self._turn(cancelled)
                    self._heartbeat.rest()
        except Exception as error:
            why = "ran out of memory" if is_out_of_memory(error) else "failed"
            log.error("The engine's thread ended: %s", type(error).__name__, exc_info=error)
            self._failure.trip(EngineStoppedError(f"The engine {why} in mid-step; the worker must be replaced."))
        finally:
            # Also reached when the thread is ended from outside.
            if not self._closing:
                self._failure.trip(EngineStoppedError(_STOPPED))
            self._reject_all(EngineStoppedError(_STOPPED))
            self._heartbeat.rest()

    def _reject_all(self, error: EngineStoppedError) -> None:
        """Tell everybody who waits, from any thread. Touches nothing that the engine's thread alone may touch."""
        with self._wake:
            left = list(self._unresolved)
            self._wake.notify()
        reject(self._warm, error)
        for generation in left:
            with suppress(BaseException):  # what a callback raises must not keep the next one waiting
                self._resolve(generation, EngineStoppedError(error.message))

    def _take_requests(self) -> set[Generation] | None:
        """Wait for work if there is none, and take what was submitted. Returns whom to cancel, None to end."""
        with self._wake:
            while not (self._ending or self._to_warm_up or self._arrived or self._cancelled or self._has_work):
                self._wake.wait()
            self._waiting.extend(self._arrived)
            self._arrived.clear()
            cancelled, self._cancelled = self._cancelled, set()
            return None if self._ending else cancelled

    @property
    def _ending(self) -> bool:
        return self._closing or self._failure.tripped

    @property
    def _has_work(self) -> bool:
        return bool(self._waiting or self._slots.occupied or self._postprocess.pending)

    @property
    def _to_warm_up(self) -> bool:
        return self._asked_to_warm_up and not self._warm.done()

    def _turn(self, cancelled: set[Generation]) -> None:
        if not self._warm.done():
            self._capture()
        self._schedule(cancelled)
        for generation, error in self._work.run():
            self._fail(generation, error)
        for generation in self._postprocess.collect():
            self._resolve(generation, None)

    def _capture(self) -> None:
        captured = self._work.warm_up()
        if captured:
            log.info("Captured %d steps", captured)
        resolve(self._warm, None)

    def _schedule(self, cancelled: set[Generation]) -> None:
        for generation in cancelled:
            error = GenerationCancelled("The request was cancelled.")
            if generation.status is Status.WAITING:
                self._waiting.remove(generation)
                generation.status = Status.FINISHED
                self._resolve(generation, error)
            elif generation.status is not Status.FINISHED:
                self._fail(generation, error)
        while self._waiting and self._slots.has_free:
            self._slots.admit(self._waiting.popleft())

    def _fail(self, generation: Generation, error: HiggsError) -> None:
        self._slots.release(generation)
        self._resolve(generation, error)

    def _resolve(self, generation: Generation, error: HiggsError | None) -> None:
        try:
            if error is None:
                self._heartbeat.warm = True
                resolve(generation.finished, generation)
            else:
                reject(generation.finished, error)
        finally:
            with self._wake:
                self._unresolved.discard(generation)
