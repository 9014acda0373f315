"""libsndfile in a child process: what it decompresses is untrusted, and its mp3 decoder writes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from higgs_core.audio import sndfile_reader
from higgs_core.audio.child_process import ChildFailed, ChildLimits, output_of
from higgs_core.audio.sndfile_reader import SoundHeader
from higgs_core.cancellation import CancelToken

_LIMITS = ChildLimits(memory_bytes=512 * 2**20, cpu_seconds=20)
_LONGEST_HEADER = 1_000
_SAMPLE_BYTES = 4


class SndfileChild:
    """A sound file in a child, in a `with` block, which ends it. Raises as `output_of` does.

    header: what the file claims to be. A child that was taken over can send any samples, and nothing else.
    """

    def __init__(self, data: bytes, *, seconds: float, cancel: CancelToken | None = None) -> None:
        # -B: under its limit on files the child would leave bytecode that is cut off, for every later process to read.
        arguments = [sys.executable, "-I", "-B", "-S", sndfile_reader.__file__, *sys.path]
        self._pieces = output_of(arguments, data, _LIMITS, seconds=seconds, cancel=cancel)
        try:
            self.header, self._rest = self._read_header()
        except BaseException:
            self._pieces.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pieces.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """float32 [n], mono, block by block."""
        left = self._rest
        for piece in self._pieces:
            left += piece
            whole = len(left) // _SAMPLE_BYTES * _SAMPLE_BYTES
            yield np.frombuffer(left[:whole], "<f4").astype(np.float32, copy=False)
            left = left[whole:]
        yield np.frombuffer(left[: len(left) // _SAMPLE_BYTES * _SAMPLE_BYTES], "<f4").astype(np.float32, copy=False)

    def _read_header(self) -> tuple[SoundHeader, bytes]:
        """The header, and the first bytes of samples that came with it."""
        start = b""
        for piece in self._pieces:
            start += piece
            line, end, rest = start.partition(b"\n")
            if end:
                return _header(line), rest
            if len(start) > _LONGEST_HEADER:
                break
        raise ChildFailed("no header")


def _header(line: bytes) -> SoundHeader:
    try:
        name, subtype, samplerate, channels = json.loads(line)
    except ValueError:
        raise ChildFailed("a broken header") from None
    if not (isinstance(samplerate, int) and isinstance(channels, int)):
        raise ChildFailed("a broken header")
    return SoundHeader(str(name), str(subtype), samplerate, channels)
