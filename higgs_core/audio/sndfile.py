"""Encodes flac, mp3 and opus with libsndfile as a stream: it writes into a buffer that is emptied after each write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.rates import SAMPLING_RATE

_SNDFILE_OPTIONS: Mapping[str, dict[str, Any]] = {
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    # 128 kbit/s. At a constant rate a player can tell the length of a stream whose first frame does not state it.
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "bitrate_mode": "CONSTANT",
        "compression_level": 0.2,
    },
    "opus": {"format": "OGG", "subtype": "OPUS", "compression_level": 0.8},  # about 60 kbit/s
}


def to_pcm16(audio: NDArray[Any]) -> NDArray[np.int16]:
    """float [N] in [-1, 1] -> int16 [N], rounded to the nearest of the values that 16-bit readers divide by 32768."""
    scaled = np.rint(np.asarray(audio, np.float64) * 32768)
    return np.clip(scaled, -32768, 32767).astype("<i2")


class SndfileStream:
    """One file as a stream. All of flac comes at the end, when its header can state length and checksum."""

    def __init__(self, fmt: str) -> None:
        self._flac = fmt == "flac"
        self._sink = _ForwardSink(skip_first_write=fmt == "mp3")
        self._sound = open_sndfile(self._sink, fmt)

    def write(self, audio: NDArray[np.float32]) -> bytes:
        self._sound.write(to_pcm16(audio) if self._flac else audio)
        return b"" if self._flac else self._sink.take()

    def finish(self) -> bytes:
        self._sound.close()
        return self._sink.take()

    def close(self) -> None:
        self._sound.close()


class _ForwardSink:
    """A file-like buffer whose start is taken away; writes to a part that was taken are ignored.

    skip_first_write: libsndfile's first write of an mp3 only reserves space for the tag frame.
    """

    def __init__(self, *, skip_first_write: bool) -> None:
        self._pending = bytearray()
        self._taken = 0
        self._position = 0
        self._skip_next = skip_first_write

    def write(self, data: Any) -> int:
        piece = bytes(data)
        start = self._position - self._taken
        self._position += len(piece)
        if self._skip_next:
            self._skip_next = False
            self._taken = self._position
        elif start >= 0:
            self._pending[start : start + len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._taken + len(self._pending)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        return b""

    def take(self) -> bytes:
        ready = bytes(self._pending)
        self._taken += len(ready)
        self._pending.clear()
        return ready


def open_sndfile(sink: Any, fmt: str) -> Any:
    """A soundfile.SoundFile that writes mono 24 kHz into `sink`. fmt: flac, mp3 or opus."""
    import soundfile

    return soundfile.SoundFile(sink, "w", SAMPLING_RATE, 1, **_SNDFILE_OPTIONS[fmt])
