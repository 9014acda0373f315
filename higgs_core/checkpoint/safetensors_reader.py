"""Reads tensors of a checkpoint directly into their destinations.

The reader of `safetensors` creates each tensor as a new object first. Here several threads read the bytes that a file's
header states for a tensor into the destination itself (same dtype, host memory) or through a few small staging buffers
(pinned for a GPU), so that host memory is bounded for a checkpoint of any size. A quantised destination is filled a few
rows at a time, so that the tensor as it is stored never lies whole on the device either.
Format: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from higgs_core.checkpoint.safetensors_header import StoredRange, read_header
from higgs_core.checkpoint.snapshot import weight_files
from higgs_core.errors import ModelLoadError
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight, quantize_into

STAGING_BYTES = 16 << 20
READERS = 8

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `nbytes` bytes from `offset` of `file`. name: in that file."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def index_folder(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a single-file or sharded checkpoint. Raises ModelLoadError when files are missing or damaged."""
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        tensors.update(_tensors_of(file))
    return tensors


def _tensors_of(file: Path) -> dict[str, StoredTensor]:
    try:
        stored = {
            name: _stored(name, file, found) for name, found in read_header(file).items() if found.dtype in _DTYPES
        }
    except ValueError as error:
        raise ModelLoadError(f"{file.name} {error}; download it again.") from None
    return stored


def _stored(name: str, file: Path, found: StoredRange) -> StoredTensor:
    dtype, nbytes = _DTYPES[found.dtype], found.stop - found.start
    if nbytes != math.prod(found.shape) * dtype.itemsize:
        raise ValueError("has a damaged header")
    return StoredTensor(name, file, dtype, found.shape, found.start, nbytes)


def read_into(pairs: Iterable[tuple[StoredTensor, Weight]], *, on_bytes: Callable[[int], None] | None = None) -> None:
    """Fill each destination with its stored tensor, converted to the destination's dtype and device, or quantised.

    pairs: (stored, destination) of equal shapes, destinations contiguous.
    on_bytes: told how many bytes each finished read added, from the reader threads.
    Raises ModelLoadError for a file that ends early, and for values to be quantised that are not finite.
    """
    jobs = [job for stored, destination in pairs for job in _split(stored, destination)]
    jobs.sort(key=lambda job: (str(job.stored.file), job.offset))
    on_gpu = any(job.device.type == "cuda" for job in jobs)
    buffers: _Buffers = queue.SimpleQueue()
    readers = min(READERS, max(2 * (os.cpu_count() or 1), 2))
    for _ in range(readers):
        buffers.put(torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=on_gpu))

    def run(job: _Read | _QuantizingRead) -> None:
        job.run(buffers)
        if on_bytes is not None:
            on_bytes(job.nbytes)

    with ThreadPoolExecutor(readers, thread_name_prefix="checkpoint") as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


@dataclass(frozen=True)
class _Read:
    """A run of a tensor's elements that fits a staging buffer. destination: 1-D view of as many elements."""

    stored: StoredTensor
    offset: int
    destination: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.destination.numel() * self.stored.dtype.itemsize

    @property
    def device(self) -> torch.device:
        return self.destination.device

    def run(self, buffers: _Buffers) -> None:
        if self.device.type == "cpu" and self.destination.dtype == self.stored.dtype:
            _read(self.stored.file, self.offset, self.destination.view(torch.uint8))
            return
        staging = buffers.get()
        try:
            raw = staging[: self.nbytes]
            _read(self.stored.file, self.offset, raw)
            self.destination.copy_(raw.view(self.stored.dtype))  # waits for the device, so the buffer is free again
        finally:
            buffers.put(staging)


@dataclass(frozen=True)
class _QuantizingRead:
    """Whole rows of a matrix that fit a staging buffer. destination: as many rows."""

    stored: StoredTensor
    offset: int
    destination: QuantizedWeight

    @property
    def nbytes(self) -> int:
        return self.destination.values.numel() * self.stored.dtype.itemsize

    @property
    def device(self) -> torch.device:
        return self.destination.values.device

    def run(self, buffers: _Buffers) -> None:
        staging = buffers.get()
        try:
            raw = staging[: self.nbytes]
            _read(self.stored.file, self.offset, raw)
            with _quantizing:
                rows = raw.view(self.stored.dtype).view(self.destination.shape)
                quantize_into(rows.to(self.device), self.destination)  # the copy has ended, so the buffer is free again
        except ValueError as error:
            raise ModelLoadError(
                f"{self.stored.name} of {self.stored.file.name} {error}, so it cannot be quantised; is the download "
                "damaged?"
            ) from None
        finally:
            buffers.put(staging)


_Buffers = queue.SimpleQueue[torch.Tensor]
_quantizing = threading.Lock()  # one reader at a time, so that the scratch on the device is one block's


def _read(file: Path, offset: int, into: torch.Tensor) -> None:
    """Fill `into`, uint8 in host memory, from `offset` of `file`."""
    view = memoryview(into.numpy())  # type: ignore[arg-type]
    descriptor = os.open(file, os.O_RDONLY)
    try:
        done = 0
        while done < len(view):
            count = os.preadv(descriptor, [view[done:]], offset + done)
            if count == 0:
                raise ModelLoadError(f"{file.name} ended early while it was read; download it again.")
            done += count
    finally:
        os.close(descriptor)


def _split(stored: StoredTensor, destination: Weight) -> Iterator[_Read | _QuantizingRead]:
    """Reads that fill a staging buffer at the most."""
    size = stored.dtype.itemsize
    if isinstance(destination, QuantizedWeight):
        count, width = destination.shape
        step = max(STAGING_BYTES // (width * size), 1)
        parts = destination.split([min(step, count - at) for at in range(0, count, step)])
        for number, part in enumerate(parts):
            yield _QuantizingRead(stored, stored.offset + number * step * width * size, part)
    else:
        step = STAGING_BYTES // size
        for number, run in enumerate(destination.view(-1).split(step)):
            yield _Read(stored, stored.offset + number * step * size, run)
