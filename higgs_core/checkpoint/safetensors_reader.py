"""Reads tensors of a checkpoint directly into their destinations.

The reader of `safetensors` creates each tensor as a new object first. Here several threads read the bytes that a file's
header states for a tensor into the destination itself (same dtype, host memory) or through a few small staging buffers
(pinned for a GPU), so that host memory is bounded for a checkpoint of any size.
Format: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import math
import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from higgs_core.checkpoint.safetensors_header import StoredRange, read_header
from higgs_core.checkpoint.snapshot import weight_files
from higgs_core.errors import ModelLoadError

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
    """Where one tensor lies: `nbytes` bytes from `offset` of `file`."""

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
        stored = {name: _stored(file, found) for name, found in read_header(file).items() if found.dtype in _DTYPES}
    except ValueError as error:
        raise ModelLoadError(f"{file.name} {error}; download it again.") from None
    return stored


def _stored(file: Path, found: StoredRange) -> StoredTensor:
    dtype, nbytes = _DTYPES[found.dtype], found.stop - found.start
    if nbytes != math.prod(found.shape) * dtype.itemsize:
        raise ValueError("has a damaged header")
    return StoredTensor(file, dtype, found.shape, found.start, nbytes)


def read_into(
    pairs: Iterable[tuple[StoredTensor, torch.Tensor]], *, on_bytes: Callable[[int], None] | None = None
) -> None:
    """Fill each destination with its stored tensor, converted to the destination's dtype and device.

    pairs: (stored, destination) of equal shapes, destinations contiguous.
    on_bytes: told how many bytes each finished read added, from the reader threads.
    """
    jobs = [job for stored, destination in pairs for job in _split(stored, destination)]
    jobs.sort(key=lambda job: (str(job.file), job.offset))
    on_gpu = any(job.destination.is_cuda for job in jobs)
    buffers: queue.SimpleQueue[torch.Tensor] = queue.SimpleQueue()
    readers = min(READERS, max(2 * (os.cpu_count() or 1), 2))
    for _ in range(readers):
        buffers.put(torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=on_gpu))

    def run(job: _Read) -> None:
        job.run(buffers)
        if on_bytes is not None:
            on_bytes(job.nbytes)

    with ThreadPoolExecutor(readers, thread_name_prefix="checkpoint") as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


@dataclass(frozen=True)
class _Read:
    """A run of a tensor's elements that fits a staging buffer. destination: 1-D view of as many elements."""

    file: Path
    dtype: torch.dtype
    offset: int
    destination: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.destination.numel() * self.dtype.itemsize

    def run(self, buffers: queue.SimpleQueue[torch.Tensor]) -> None:
        if self.destination.device.type == "cpu" and self.destination.dtype == self.dtype:
            self._read(self.destination.view(torch.uint8))
            return
        staging = buffers.get()
        try:
            raw = staging[: self.nbytes]
            self._read(raw)
            self.destination.copy_(raw.view(self.dtype))  # waits for the device, so the buffer is free again
        finally:
            buffers.put(staging)

    def _read(self, into: torch.Tensor) -> None:
        view = memoryview(into.numpy())  # type: ignore[arg-type]
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            done = 0
            while done < len(view):
                count = os.preadv(descriptor, [view[done:]], self.offset + done)
                if count == 0:
                    raise ModelLoadError(f"{self.file.name} ended early while it was read; download it again.")
                done += count
        finally:
            os.close(descriptor)


def _split(stored: StoredTensor, destination: torch.Tensor) -> list[_Read]:
    flat = destination.view(-1)
    step = STAGING_BYTES // stored.dtype.itemsize
    return [
        _Read(stored.file, stored.dtype, stored.offset + at * stored.dtype.itemsize, flat[at : at + step])
        for at in range(0, flat.numel(), step)
    ]
