"""One thread for the codec, beside the engine's: encoding and decoding never stand in a decode step's way.

Decodes that wait at the same time and are equally long run as one batch. On a GPU the thread has a stream of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
import torch

from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, HiggsError

log = logging.getLogger(__name__)

LARGEST_BATCH = 8


class CodecWorker:
    """`encode` and `decode` may be called from any thread; futures fail with HiggsErrors only."""

    def __init__(self, codec: AudioCodec, device: torch.device) -> None:
        self.codec = codec
        self.busy_seconds = 0.0
        self._device = device
        self._wake = threading.Condition()
        self._encodes: deque[tuple[np.ndarray, Future[torch.Tensor]]] = deque()
        self._decodes: deque[tuple[torch.Tensor, Future[np.ndarray]]] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="higgs-codec", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        return not self._closing and self._thread.is_alive()

    def encode(self, waveform: np.ndarray) -> Future[torch.Tensor]:
        """Mono float32 [N] to codes int64 [Q, T]."""
        future: Future[torch.Tensor] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._encodes.append((waveform, future))
            self._wake.notify()
        return future

    def decode(self, codes: np.ndarray) -> Future[np.ndarray]:
        """Codes int64 [Q, T] to mono float32 [T * hop_length]."""
        future: Future[np.ndarray] = Future()
        with self._wake:
            self._refuse_if_closed()
            self._decodes.append((torch.from_numpy(np.ascontiguousarray(codes)), future))
            self._wake.notify()
        return future

    def decode_joined(self, segments: Sequence[np.ndarray]) -> Future[np.ndarray]:
        """Several segments, int64 [Q, T] each, to their audio one after the other, float32 [N]."""
        joined: Future[np.ndarray] = Future()
        parts = [self.decode(codes) for codes in segments if codes.shape[1]]
        if not parts:
            joined.set_result(np.zeros(0, dtype=np.float32))
        unfinished, lock = set(parts), threading.Lock()

        def finished(part: Future[np.ndarray]) -> None:
            with lock:  # called by this thread or by the caller's, whichever is later
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
            raise EngineStoppedError("The audio codec has stopped; this worker is being replaced.")

    def _run(self) -> None:
        stream = (
            torch.cuda.stream(torch.cuda.Stream(self._device))
            if self._device.type == "cuda"
            else contextlib.nullcontext()
        )
        try:
            with stream, torch.inference_mode():
                while self._serve():
                    pass
        finally:
            stopped = EngineStoppedError("The audio codec has stopped; this worker is being replaced.")
            with self._wake:
                self._closing = True
                left = [future for _, future in self._encodes] + [future for _, future in self._decodes]
            for future in left:
                future.set_exception(stopped)

    def _serve(self) -> bool:
        with self._wake:
            while not (self._closing or self._encodes or self._decodes):
                self._wake.wait()
            if self._closing:
                return False
            batch = self._next_batch()
            clip = None if batch else self._encodes.popleft()
        started = time.perf_counter()
        if batch:
            self._decode_batch(batch)
        elif clip is not None:
            _settle(clip[1], lambda: self.codec.encode(clip[0]))
        self.busy_seconds += time.perf_counter() - started
        return True

    def _next_batch(self) -> list[tuple[torch.Tensor, Future[np.ndarray]]]:
        """The oldest decode and those behind it of the same length. Somebody listens to a decode, so it goes first."""
        if not self._decodes:
            return []
        frames = self._decodes[0][0].shape[1]
        batch: list[tuple[torch.Tensor, Future[np.ndarray]]] = []
        others: deque[tuple[torch.Tensor, Future[np.ndarray]]] = deque()
        for job in self._decodes:
            alike = job[0].shape[1] == frames and len(batch) < LARGEST_BATCH
            (batch if alike else others).append(job)
        self._decodes = others
        return batch

    def _decode_batch(self, batch: list[tuple[torch.Tensor, Future[np.ndarray]]]) -> None:
        decoded: Future[torch.Tensor] = Future()
        _settle(decoded, lambda: self.codec.decode(torch.stack([codes for codes, _ in batch])))
        if len(batch) > 1 and isinstance(decoded.exception(), DeviceMemoryError):
            for job in batch:  # one at a time needs a fraction of the memory
                self._decode_batch([job])
            return
        for row, (_, future) in enumerate(batch):
            _settle(future, lambda row=row: decoded.result()[row].numpy())


def _settle(future: Future, work) -> None:  # type: ignore[no-untyped-def, type-arg]
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
