"""What a process and its children take, read from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from serverless.config.native_memory import QUIET_SECONDS

_SECONDS = 1.0
"""Between two looks."""

_REST_SECONDS = 2 * QUIET_SECONDS
_REST_PAUSE = 0.2


@dataclass(frozen=True)
class Sample:
    """Memory in MB (10^6 bytes). anonymous: what was allocated, without the pages of files that are mapped.

    seconds: since the soak began.  jobs: that had ended.  children: processes; their resident memory is not in
    `resident`, which would count the pages that they share twice.
    """

    seconds: float
    jobs: int
    resident: float
    anonymous: float
    files: int
    threads: int
    children: int
    children_resident: float

    @classmethod
    def of(cls, pid: int, *, seconds: float, jobs: int) -> Self:
        """Raises psutil.NoSuchProcess when the process has ended."""
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        resident, anonymous = _memory(pid)
        return cls(
            seconds=round(seconds, 1),
            jobs=jobs,
            resident=round(resident, 1),
            anonymous=round(anonymous, 1),
            files=process.num_fds(),
            threads=process.num_threads(),
            children=len(children),
            children_resident=round(sum(_memory(child.pid)[0] for child in children), 1),
        )


def _memory(pid: int) -> tuple[float, float]:
    """(resident, anonymous); 0 of a process that has just ended."""
    found = {"Rss:": 0.0, "Anonymous:": 0.0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, kilobytes, _ = line.split()
            if name in found:
                found[name] = int(kilobytes) * 1024 / 1e6
    return found["Rss:"], found["Anonymous:"]


class Watch:
    """Samples of one process, one a second in `samples`."""

    def __init__(self, pid: int, jobs: Callable[[], int], began: float) -> None:
        """jobs: how many have ended.  began: of the monotonic clock."""
        self._pid = pid
        self._jobs = jobs
        self._began = began
        self._over = threading.Event()
        self.samples: list[Sample] = []

    def look(self) -> Sample:
        return Sample.of(self._pid, seconds=time.monotonic() - self._began, jobs=self._jobs())

    def at_rest(self) -> Sample:
        """A sample of an idle process, once it has given back what its last jobs freed and closed what they held."""
        until = time.monotonic() + _REST_SECONDS
        sample = self.look()
        while not self._over.wait(_REST_PAUSE):
            last, sample = sample, self.look()
            still = (last.files, last.threads, last.children) == (sample.files, sample.threads, sample.children)
            if still and time.monotonic() > until:
                break
        return sample

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        with suppress(psutil.NoSuchProcess):  # whoever waits for the process says so
            while not self._over.wait(_SECONDS):
                self.samples.append(self.look())
