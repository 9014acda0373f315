"""A running ffmpeg process: takes samples as they are generated, returns encoded bytes as they become ready."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import DeliveryError

QUIET = ("-hide_banner", "-loglevel", "quiet")
_FINISH_TIMEOUT_SECONDS = 30.0


def ffmpeg_path() -> str | None:
    """The ffmpeg of this machine, or None."""
    return shutil.which("ffmpeg")


class FfmpegPipe:
    """Takes float32 [n] at `sampling_rate`; returns the bytes that ffmpeg writes with the arguments `output`.

    `close` ends ffmpeg at any time. what: the task, for error messages ("encoding AAC").
    """

    def __init__(self, program: str, sampling_rate: int, output: Sequence[str], *, what: str, remedy: str) -> None:
        source = f"-f f32le -ac 1 -ar {sampling_rate} -i pipe:0"
        self._what = what
        self._remedy = remedy
        self._process = subprocess.Popen(
            [program, *QUIET, *source.split(), *output, "pipe:1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._lock = threading.Lock()
        self._ready = bytearray()
        self._reader = threading.Thread(target=self._read, name="ffmpeg-reader", daemon=True)
        self._reader.start()

    def write(self, audio: NDArray[np.float32]) -> bytes:
        """Write samples in [-1, 1]; returns the bytes that are ready. Raises DeliveryError when ffmpeg has ended."""
        assert self._process.stdin is not None
        unsent = memoryview(audio.astype("<f4").tobytes())
        try:
            while unsent:
                unsent = unsent[self._process.stdin.write(unsent) :]
        except BrokenPipeError:
            raise self._failed() from None
        return self._take()

    def finish(self) -> bytes:
        """The remaining bytes. Raises DeliveryError when ffmpeg failed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            failed = self._process.wait(_FINISH_TIMEOUT_SECONDS) != 0
        except subprocess.TimeoutExpired:
            failed = True
        self.close()
        if failed:
            raise self._failed()
        return self._take()

    def close(self) -> None:
        """End ffmpeg and the reader thread; may be called again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

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
