"""Reads a sound file in blocks with libsndfile: in this process, or as a script in a child process.

The script is this file alone: `python -I -S sndfile_reader.py FOLDER...` imports from these folders, reads a file on
its standard input and writes a line of JSON, which is the header, and the samples mixed to mono, float32
little-endian. It ends with status 1 where libsndfile cannot read the file.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK_FRAMES = 2**15  # at most 1 MB of float32 over all channels


class SoundHeader(NamedTuple):
    """What a file claims to be; not checked."""

    format: str
    subtype: str
    samplerate: int
    channels: int


class Unreadable(Exception):
    """libsndfile cannot read the file."""


class SoundReader:
    """One sound file in memory. Raises Unreadable, also while its blocks are read."""

    def __init__(self, data: bytes) -> None:
        import soundfile

        try:
            self._sound = soundfile.SoundFile(io.BytesIO(data))
        except soundfile.LibsndfileError:  # the content's fault in any case, as the bytes are in memory
            raise Unreadable from None
        sound = self._sound
        self.header = SoundHeader(sound.format, sound.subtype, sound.samplerate, sound.channels)
        # soundfile trusts the header's length where it can seek, and a stream's header does not know its length.
        sound.seekable = lambda: False

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """float32 [n], mixed to mono, block by block."""
        import soundfile

        with self._sound as sound:
            try:
                while len(block := sound.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                    yield block.mean(axis=1)
            except soundfile.LibsndfileError:
                raise Unreadable from None


def main() -> None:
    """Standard input to standard output, as the module says."""
    sys.path[:] = sys.argv[1:]
    try:
        sound = SoundReader(sys.stdin.buffer.read())
        out = sys.stdout.buffer
        out.write(json.dumps(sound.header).encode() + b"\n")
        for block in sound.blocks():
            out.write(block.astype("<f4").tobytes())
        out.flush()
    except Unreadable:
        sys.exit(1)


if __name__ == "__main__":
    main()
