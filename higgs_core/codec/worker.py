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

from higgs_core.codec.audio_codec import AudioCodec, free_cached_memory
from higgs_core.codec.decode_graph import DecodeGraphs
from higgs_core.codec.jobs import DecodeJob, JobQueue, Task, Urgency
from higgs_core.device_memory import is_out_of_memory
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, HiggsError

log = logging.getLogger(__name__)

_STOPPED = "The audio codec has stopped; this worker is being replaced."

Result = TypeVar("Result")


class CodecWorker:
    """`encode` and `decode` may be called from any thread.

    Every future is resolved, whatever happens to the thread, and fails with HiggsErrors only: EngineStoppedError when
    the thread has ended or the codec failed, DeviceMemoryError when the device has too little memory.
    """

    def __init__(self, codec: AudioCodec, device: torch.device) -> None:
        self._codec = codec
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

    @property
    def healthy(self) -> bool:
        return not self._closing and self._thread.is_alive()

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
                _settle(joined, lambda: np.concatenate([part.result() for part in parts]))

        for part in parts:
            part.add_done_callback(finished)
        return joined

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

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
        if not self.healthy:
            raise EngineStoppedError(_STOPPED)

    def _run(self) -> None:
        _use_threads(self._threads)
        try:
            with _lowest_priority_stream(self._device), torch.inference_mode():
                while self._serve():
                    pass
        finally:
            # Also reached when the thread is ended in the middle of a job.
            with self._wake:
                self._closing = True
                left = [*self._running, *self._jobs.clear()]
            for future in left:
                if not future.done():
                    future.set_exception(EngineStoppedError(_STOPPED))

    def _serve(self) -> bool:
        """Wait for jobs and do the next ones. False when the thread is to end."""
        with self._wake:
            while not (self._closing or self._jobs):
                self._wake.wait()
            if self._closing:
                return False
            next_up = self._jobs.pop()
            self._running = [next_up.future] if isinstance(next_up, Task) else [job.future for job in next_up]
        if isinstance(next_up, Task):
            _settle(next_up.future, next_up.work)
        else:
            self._decode_batch(next_up)
        self._running = []
        return True

    def _decode_batch(self, batch: list[DecodeJob]) -> None:
        decoded: Future[torch.Tensor] = Future()
        _settle(decoded, lambda: self._decode(torch.stack([job.next_codes() for job in batch])))
        error = decoded.exception()
        if len(batch) > 1 and isinstance(error, DeviceMemoryError):
            for job in batch:  # one at a time needs a fraction of the memory
                self._decode_batch([job])
            return
        for row, job in enumerate(batch):
            if error is not None:
                job.future.set_exception(error)
            elif not job.add(decoded.result()[row]):
                with self._wake:
                    self._jobs.add_decode(job)

    def _decode(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 [B, Q, T] to float32 [B, T * 960] on the host."""
        audio = self._graphs.decode(codes)
        return self._codec.decode(codes) if audio is None else audio

    def _warm_up(self, lengths: Sequence[int]) -> None:
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


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    """Resolve with what `work` returns or raises, as a HiggsError."""
    out_of_memory = False
    try:
        future.set_result(work())
    except HiggsError as error:
        future.set_exception(error)
    except Exception as error:
        out_of_memory = is_out_of_memory(error)
        if not out_of_memory:
            log.error("The audio codec failed: %s", type(error).__name__, exc_info=error)
            future.set_exception(EngineStoppedError("The audio codec failed; the worker must be replaced."))
    if out_of_memory:  # here, and not in the handler, the failed call's tensors are free
        free_cached_memory()
        future.set_exception(DeviceMemoryError("The device ran out of memory in the audio codec."))
