"""A running ffmpeg process: takes samples as they are generated, returns encoded bytes as they become ready."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio.child_process import ChildFailed, ChildLimits, end_child, start_child
from higgs_core.errors import DeliveryError

QUIET = ("-hide_banner", "-loglevel", "quiet")
STALLED_SECONDS = 30.0
"""How long ffmpeg may leave its input unread, or take to end after its last input."""

_LIMITS = ChildLimits(memory_bytes=2**30, cpu_seconds=600)  # hours of speech


def ffmpeg_path() -> str | None:
    """The ffmpeg of this machine, or None."""
    return shutil.which("ffmpeg")


class FfmpegPipe:
    """Takes float32 [n] at `sampling_rate`; returns the bytes that ffmpeg writes with the arguments `output`.

    `close` ends ffmpeg at any time. what: the task, for error messages ("encoding AAC").
    stalled_seconds: as STALLED_SECONDS says.
    Raises DeliveryError where ffmpeg cannot be started.
    """

    def __init__(
        self,
        program: str,
        sampling_rate: int,
        output: Sequence[str],
        *,
        what: str,
        remedy: str,
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        source = f"-f f32le -ac 1 -ar {sampling_rate} -i pipe:0"
        self._what = what
        self._remedy = remedy
        self._stalled_seconds = stalled_seconds
        try:
            self._process = start_child([program, *QUIET, *source.split(), *output, "pipe:1"], _LIMITS)
        except ChildFailed:
            raise self._failed() from None
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._writable = select.poll()
        self._writable.register(self._process.stdin, select.POLLOUT)
        self._lock = threading.Lock()
        self._ready = bytearray()
        self._reader = threading.Thread(target=self._read, name="ffmpeg-reader", daemon=True)
        self._reader.start()

    def write(self, audio: NDArray[np.float32]) -> bytes:
        """Write samples in [-1, 1]; returns the bytes that are ready.

        Raises DeliveryError when ffmpeg has ended, or has not read for `stalled_seconds`.
        """
        assert self._process.stdin is not None
        unsent = memoryview(audio.astype("<f4").tobytes())
        while unsent:
            if not self._writable.poll(self._stalled_seconds * 1000):
                self.close()
                raise self._failed()
            try:
                unsent = unsent[os.write(self._process.stdin.fileno(), unsent) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._failed() from None
        return self._take()

    def finish(self) -> bytes:
        """The remaining bytes. Raises DeliveryError when ffmpeg failed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            failed = self._process.wait(self._stalled_seconds) != 0
        except subprocess.TimeoutExpired:
            failed = True
        self.close()
        if failed:
            raise self._failed()
        return self._take()

    def close(self) -> None:
        """End ffmpeg and the reader thread; may be called again."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(self._stalled_seconds)
        end_child(self._process)

    def _failed(self) -> DeliveryError:
        return DeliveryError(f"ffmpeg failed while {self._what}.", hint=self._remedy)

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := self._process.stdout.read(2**16):
            with self._lock:
                self._ready += piece

    def _take(self) -> bytes:
        with self._lock:
            ready = bytes(self._ready)
            self._ready.clear()
        return ready
