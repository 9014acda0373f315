"""One thread for the codec, beside the engine's, so that no decode step waits for encoding or decoding.

On a GPU the thread has a stream of its own, of the lowest priority: where the engine's kernels wait too, they go first.
Decodes that wait at the same time and are equally long run as one batch; long ones give way to others between pieces.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.codec.decode_graph import DecodeGraphs
from higgs_core.codec.jobs import DecodeJob, JobQueue, Task, Urgency
from higgs_core.codec.settling import STOPPED, settle
from higgs_core.errors import EngineStoppedError
from higgs_core.failures.device_memory import is_out_of_memory
from higgs_core.failures.failure_latch import FailureLatch
from higgs_core.failures.resolving import reject
from higgs_core.failures.watchdog import Heartbeat, Watched

log = logging.getLogger(__name__)

_STUCK_SECONDS = 1.0  # that a thread gets to end once the engine has failed

Result = TypeVar("Result")


class CodecWorker:
    """`encode` and `decode` may be called from any thread.

    Every future is resolved, whatever happens to the thread, and fails with HiggsErrors only: EngineStoppedError when
    the thread has ended or hangs or the device has failed, DeviceMemoryError when the device has too little memory. Any
    other error is the job's own: its future fails with a plain HiggsError, and the next job runs.
    """

    def __init__(self, codec: AudioCodec, device: torch.device, failure: FailureLatch | None = None) -> None:
        """failure: of the whole engine; the thread trips it when the device fails, and when it ends unasked."""
        self._codec = codec
        self._failure = FailureLatch() if failure is None else failure
        self._heartbeat = Heartbeat()
        self._device = device
        self._graphs = DecodeGraphs(codec, device)
        self._wake = threading.Condition()
        self._jobs = JobQueue()
        self._running: list[Future[Any]] = []  # of the jobs that the thread works on
        self._closing = False
        self._threads = torch.get_num_threads()
        if device.type == "cuda":
            # The weights were written on another stream. Waited for here, before any thread captures a graph: while one
            # does, nobody may wait for the whole device.
            torch.cuda.synchronize(device)
        self._thread = threading.Thread(target=self._run, name="higgs-codec", daemon=True)
        self._thread.start()
        self._failure.on_trip(self._reject_all)

    @property
    def healthy(self) -> bool:
        return not self._failure.tripped and not self._closing and self._thread.is_alive()

    @property
    def watched(self) -> Watched:
        """Its thread, for a watchdog."""
        return Watched("audio codec", self._thread, self._heartbeat, lambda: self._lost)

    @property
    def _lost(self) -> bool:
        return not self._closing and not self._thread.is_alive()

    @property
    def captured_lengths(self) -> tuple[int, ...]:
        """Numbers of frames, ascending, whose decodes are captured: one launch each. Empty before `warm_up`."""
        return self._graphs.lengths

    def warm_up(self, lengths: Iterable[int]) -> None:
        """Do what the first requests would wait for otherwise, and capture decodes of so many frames. Blocks.

        Kernels are loaded, cuDNN chooses its algorithms, and memory is set aside for what is usual. Does nothing on a
        CPU. Not while another thread captures a graph. Raises EngineStoppedError.
        """
        if self._device.type == "cuda":
            self._submit(partial(self._warm_up, tuple(lengths))).result()

    def encode(self, waveform: np.ndarray) -> Future[torch.Tensor]:
        """Mono float32 [N] to codes int64 [Q, T]. Raises EngineStoppedError."""
        return self._submit(partial(self._codec.encode, waveform))

    def decode(self, codes: np.ndarray) -> Future[np.ndarray]:
        """Codes int64 [Q, T] of a stream's chunk to mono float32 [T * 960]. Raises EngineStoppedError."""
        return self._submit_decode(codes, Urgency.STREAM)

    def decode_joined(self, segments: Sequence[np.ndarray]) -> Future[np.ndarray]:
        """Several segments, int64 [Q, T] each, to their audio one after the other: float32 [N].

        Nobody listens to it yet, so that chunks of streams and clips to encode come first. Raises EngineStoppedError.
        """
        joined: Future[np.ndarray] = Future()
        parts = [self._submit_decode(codes, Urgency.WHOLE) for codes in segments]
        if not parts:
            joined.set_result(np.zeros(0, dtype=np.float32))
        unfinished, lock = set(parts), threading.Lock()

        def finished(part: Future[np.ndarray]) -> None:
            with lock:  # called by the codec's thread or by the caller's, whichever is later
                unfinished.discard(part)
                last = not unfinished
            if last:
                settle(joined, lambda: np.concatenate([part.result() for part in parts]), self._failure)

        for part in parts:
            part.add_done_callback(finished)
        return joined

    def close(self, timeout: float | None = None) -> bool:
        """Stop the thread; whatever waits for it ends in EngineStoppedError. Returns whether the thread has ended.

        timeout: seconds to wait for it; one that hangs is left behind.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is threading.current_thread():
            return True
        self._thread.join(_STUCK_SECONDS if self._failure.tripped else timeout)
        if self._thread.is_alive():
            log.error("The audio codec's thread did not end; it is left behind")
            self._reject_all(EngineStoppedError(STOPPED))
        return not self._thread.is_alive()

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._jobs.add_task(Task(work, future))
            self._wake.notify()
        return future

    def _submit_decode(self, codes: np.ndarray, urgency: Urgency) -> Future[np.ndarray]:
        if not codes.shape[1]:
            nothing: Future[np.ndarray] = Future()
            nothing.set_result(np.zeros(0, dtype=np.float32))
            return nothing
        job = DecodeJob(torch.from_numpy(np.ascontiguousarray(codes)), urgency)
        with self._wake:
            self._refuse_if_closed()
            self._jobs.add_decode(job)
            self._wake.notify()
        return job.future

    def _refuse_if_closed(self) -> None:
        if (failure := self._failure.error) is not None:
            raise failure
        if not self.healthy:
            raise EngineStoppedError(STOPPED)

    def _run(self) -> None:
        try:
            _use_threads(self._threads)
            with _lowest_priority_stream(self._device), torch.inference_mode():
                while self._serve():
                    self._heartbeat.rest()
        except Exception as error:
            log.error("The audio codec's thread ended: %s", type(error).__name__, exc_info=error)
        finally:
            # Also reached when the thread is ended in the middle of a job.
            if not self._closing:
                self._failure.trip(EngineStoppedError(STOPPED))
            self._reject_all(EngineStoppedError(STOPPED))
            self._heartbeat.rest()

    def _reject_all(self, error: EngineStoppedError) -> None:
        """Tell everybody who waits, from any thread."""
        with self._wake:
            left = [*self._running, *self._jobs.clear()]
            self._wake.notify()
        for future in left:
            with contextlib.suppress(BaseException):  # what a callback raises must not keep the next one waiting
                reject(future, EngineStoppedError(error.message))

    def _serve(self) -> bool:
        """Wait for jobs and do the next ones. False when the thread is to end."""
        with self._wake:
            while not (self._closing or self._failure.tripped or self._jobs):
                self._wake.wait()
            if self._closing or self._failure.tripped:
                return False
            next_up = self._jobs.pop()
            self._running = [next_up.future] if isinstance(next_up, Task) else [job.future for job in next_up]
        if isinstance(next_up, Task):
            self._heartbeat.beat()
            settle(next_up.future, next_up.work, self._failure)
        else:
            self._decode_batch(next_up)
        self._running = []
        self._heartbeat.warm = True
        return True

    def _decode_batch(self, batch: list[DecodeJob]) -> None:
        self._heartbeat.beat()
        decoded: Future[torch.Tensor] = Future()
        settle(decoded, lambda: self._decode(torch.stack([job.next_codes() for job in batch])), self._failure)
        error = decoded.exception()
        if len(batch) > 1 and error is not None and not self._failure.tripped:
            for job in batch:  # one at a time needs a fraction of the memory, and a job's own error stays with it
                self._decode_batch([job])
            return
        for row, job in enumerate(batch):
            if error is not None:
                reject(job.future, error)
            else:
                self._add_piece(job, decoded.result()[row])

    def _add_piece(self, job: DecodeJob, audio: torch.Tensor) -> None:
        """Take the audio of a decode's next piece, float32 [N], and queue the piece behind it, if there is one."""
        complete: Future[bool] = Future()
        settle(complete, lambda: job.add(audio), self._failure)
        if (error := complete.exception()) is not None:
            reject(job.future, error)
        elif not complete.result():
            with self._wake:
                if not job.future.done():  # whoever waits has not been told meanwhile that the codec has stopped
                    self._jobs.add_decode(job)

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 [B, Q, T] to float32 [B, T * 960] on the host."""
        audio = self._graphs.decode(codes)
        return self._codec.decode(codes) if audio is None else audio

    def _warm_up(self, lengths: Sequence[int]) -> None:
        self._heartbeat.warm = False  # it may take as long as a first call
        started = time.perf_counter()
        try:
            self._codec.warm_up()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The audio codec has too little memory for the longest clips; requests with one may fail")
        self._graphs.prepare(lengths)
        log.info("Warmed the audio codec up in %.2f s", time.perf_counter() - started)


def _use_threads(count: int) -> None:
    """Have what the current thread computes on a CPU use so many threads, whatever others do.

    A thread takes over, where it computes or asks for the first time, the number that any thread has set last, and the
    engine's sets fewer for each of its steps.
    """
    torch.get_num_threads()  # now; after `set_num_threads` it would undo that
    torch.set_num_threads(count)


def _lowest_priority_stream(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """A stream to which everything on the thread goes; its captured graphs keep the priority."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    lowest, _ = torch.cuda.Stream.priority_range()  # type: ignore[call-arg]  # it is static
    return torch.cuda.stream(torch.cuda.Stream(device, priority=lowest))
