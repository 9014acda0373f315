"""One thread for the codec, beside the engine's, so that no decode step waits for encoding or decoding.

Decodes that wait at the same time and are equally long run as one batch. On a GPU the thread has a stream of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, HiggsError

log = logging.getLogger(__name__)

MAX_BATCH = 8
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
        self._wake = threading.Condition()
        self._encodes: deque[tuple[np.ndarray, Future[torch.Tensor]]] = deque()
        self._decodes: deque[tuple[torch.Tensor, Future[np.ndarray]]] = deque()
        self._running: list[Future[Any]] = []  # of the jobs that the thread works on
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="higgs-codec", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        return not self._closing and self._thread.is_alive()

    def encode(self, waveform: np.ndarray) -> Future[torch.Tensor]:
        """Mono float32 [N] to codes int64 [Q, T]. Raises EngineStoppedError."""
        future: Future[torch.Tensor] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._encodes.append((waveform, future))
            self._wake.notify()
        return future

    def decode(self, codes: np.ndarray) -> Future[np.ndarray]:
        """Codes int64 [Q, T] to mono float32 [T * 960]. Raises EngineStoppedError."""
        future: Future[np.ndarray] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._decodes.append((torch.from_numpy(np.ascontiguousarray(codes)), future))
            self._wake.notify()
        return future

    def decode_joined(self, segments: Sequence[np.ndarray]) -> Future[np.ndarray]:
        """Several segments, int64 [Q, T] each, to their audio one after the other: float32 [N].

        Raises EngineStoppedError.
        """
        joined: Future[np.ndarray] = Future()
        parts = [self.decode(codes) for codes in segments if codes.shape[1]]
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

    def _refuse_if_closed(self) -> None:
        if not self.healthy:
            raise EngineStoppedError(_STOPPED)

    def _run(self) -> None:
        try:
            stream = (
                torch.cuda.stream(torch.cuda.Stream(self._device))
                if self._device.type == "cuda"
                else contextlib.nullcontext()
            )
            with stream, torch.inference_mode():
                while self._serve():
                    pass
        finally:
            # Also reached when the thread is ended in the middle of a job.
            with self._wake:
                self._closing = True
                left = [*self._running, *(job[1] for job in self._encodes), *(job[1] for job in self._decodes)]
                self._encodes.clear()
                self._decodes.clear()
            for future in left:
                if not future.done():
                    future.set_exception(EngineStoppedError(_STOPPED))

    def _serve(self) -> bool:
        """Wait for jobs and do the next ones. False when the thread is to end."""
        with self._wake:
            while not (self._closing or self._encodes or self._decodes):
                self._wake.wait()
            if self._closing:
                return False
            batch = self._next_batch()
            encodes = [] if batch else [self._encodes.popleft()]
            self._running = [future for _, future in batch] + [future for _, future in encodes]
        if batch:
            self._decode_batch(batch)
        for waveform, future in encodes:
            _settle(future, partial(self._codec.encode, waveform))
        self._running = []
        return True

    def _next_batch(self) -> list[tuple[torch.Tensor, Future[np.ndarray]]]:
        """The oldest decode and those behind it of the same length. Decodes come before encodes: streams play them."""
        if not self._decodes:
            return []
        frames = self._decodes[0][0].shape[1]
        batch: list[tuple[torch.Tensor, Future[np.ndarray]]] = []
        others: deque[tuple[torch.Tensor, Future[np.ndarray]]] = deque()
        for job in self._decodes:
            alike = job[0].shape[1] == frames and len(batch) < MAX_BATCH
            (batch if alike else others).append(job)
        self._decodes = others
        return batch

    def _decode_batch(self, batch: list[tuple[torch.Tensor, Future[np.ndarray]]]) -> None:
        decoded: Future[torch.Tensor] = Future()
        _settle(decoded, lambda: self._codec.decode(torch.stack([codes for codes, _ in batch])))
        if len(batch) > 1 and isinstance(decoded.exception(), DeviceMemoryError):
            for job in batch:  # one at a time needs a fraction of the memory
                self._decode_batch([job])
            return
        for row, (_, future) in enumerate(batch):
            _settle(future, partial(_row, decoded, row))


def _row(decoded: Future[torch.Tensor], row: int) -> np.ndarray:
    return decoded.result()[row].numpy()


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    """Resolve with what `work` returns or raises, as a HiggsError."""
    try:
        future.set_result(work())
    except HiggsError as error:
        future.set_exception(error)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        future.set_exception(DeviceMemoryError("The device ran out of memory in the audio codec."))
    except Exception as error:
        log.error("The audio codec failed: %s", type(error).__name__, exc_info=error)
        future.set_exception(EngineStoppedError("The audio codec failed; the worker must be replaced."))
