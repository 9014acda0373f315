"""Child processes that decode untrusted bytes or encode speech: limited by the kernel, ended in any case.

Each limit is set on the started child (`prlimit`), before it gets its first byte of input. Nothing runs between fork
and exec: `preexec_fn` may deadlock in a process with threads, and it would cost the fast start of the child (vfork).
A system without `prlimit`, which only Linux has, sets no limits; time and output are bounded there too.
"""

from __future__ import annotations

import os
import resource
import selectors
import subprocess
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from higgs_core.cancellation import CancelToken

_PIECE_BYTES = 2**16
_OPEN_FILES = 64
_HANDED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class ChildLimits:
    """memory_bytes: of address space.  cpu_seconds: of all its threads.  file_bytes: of each file that it writes."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int = 0


class ChildFailed(Exception):
    """The child could not be started, ended in an error or was ended by one of its limits."""


class ChildTimeout(Exception):
    """The child took longer than it was given."""


def start_child(arguments: Sequence[str], limits: ChildLimits) -> subprocess.Popen[bytes]:
    """A child between two pipes. Of the environment it gets no secret, and its errors go nowhere.

    Raises ChildFailed.
    """
    environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ} | _ENVIRONMENT
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )
    except OSError as error:  # not found; no memory, process or descriptor left
        raise ChildFailed(type(error).__name__) from None
    try:
        _limit(process.pid, limits)
    except OSError as error:
        end_child(process)
        raise ChildFailed(type(error).__name__) from None
    return process


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Kill it if it still runs, and close its pipes; may be called again."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def output_of(
    arguments: Sequence[str],
    data: bytes,
    limits: ChildLimits,
    *,
    seconds: float,
    cancel: CancelToken | None = None,
) -> Generator[bytes, None, None]:
    """What a child writes while it reads `data`, piece by piece. Closing the iterator ends the child.

    seconds: how long it may take altogether.  cancel: ends it when another thread cancels.
    Raises ChildFailed, ChildTimeout, and GenerationCancelled once it was cancelled.
    """
    cancel = cancel or CancelToken()
    cancel.raise_if_cancelled()
    deadline = time.monotonic() + seconds
    process = start_child(arguments, limits)
    try:
        with cancel.on_cancel(process.kill):
            yield from _exchange(process, data, deadline)
            try:
                ended_with = process.wait(max(deadline - time.monotonic(), 0.001))
            except subprocess.TimeoutExpired:
                raise ChildTimeout from None
        cancel.raise_if_cancelled()
        if ended_with != 0:
            raise ChildFailed(f"status {ended_with}")
    finally:
        end_child(process)


def _exchange(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> Iterator[bytes]:
    """Feed the child and read from it until it closes its output. Neither a read nor a write blocks."""
    assert process.stdin is not None
    assert process.stdout is not None
    unsent = memoryview(data)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise ChildTimeout
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    try:
                        unsent = unsent[os.write(key.fd, unsent[:_PIECE_BYTES]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:  # it has read enough, or has ended: its status will tell
                        unsent = unsent[:0]
                    if not unsent:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif piece := os.read(key.fd, _PIECE_BYTES):
                    yield piece
                else:
                    return


def _limit(pid: int, limits: ChildLimits) -> None:
    if not hasattr(resource, "prlimit"):
        return
    cpu = limits.cpu_seconds
    for which, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # the first is a signal that a program may handle, the second is not
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, allowed = resource.prlimit(pid, which)
        if allowed != resource.RLIM_INFINITY:  # the system's own limit may be lower, and cannot be raised
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.prlimit(pid, which, (soft, hard))
