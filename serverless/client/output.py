"""What the client leaves behind: the audio file, complete or not at all, and lines at the terminal."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import requests

from serverless.client.transports import CONNECT_SECONDS, ClientError

_BAR = 24
_UNKNOWN_LENGTH = 0xFFFFFFFF
_HEADER_BYTES = 128  # the chunks of a WAV header lie in its first few dozen bytes


class AudioFile:
    """A file that appears under its name only when `keep` was called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".part")
        self._kept = False
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._file = self._partial.open("w+b")
        except OSError as error:
            raise ClientError(f"{self._path} cannot be written: {error.strerror}.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._kept:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)

    def download(self, url: str) -> None:
        """The file behind a presigned address, which wants no key. Raises ClientError."""
        try:
            with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, 60)) as response:
                response.raise_for_status()
                for part in response.iter_content(1 << 20):
                    self.write(part)
        except requests.RequestException as error:
            raise ClientError(f"The result cannot be downloaded ({type(error).__name__}).") from None

    def keep(self, audio_format: str) -> None:
        """Finish the file: a streamed WAV learns its length at last."""
        if audio_format == "wav":
            self._file.seek(0)
            header = self._file.read(_HEADER_BYTES)
            for offset, value in wav_sizes(header, self.size):
                self._file.seek(offset)
                self._file.write(struct.pack("<I", value))
        self._kept = True


def wav_sizes(header: bytes, file_bytes: int) -> list[tuple[int, int]]:
    """(offset, value) of every size in a WAV header that was written before the length was known."""
    data = header.find(b"data")
    if header[:4] != b"RIFF" or data < 0 or struct.unpack_from("<I", header, data + 4)[0] != _UNKNOWN_LENGTH:
        return []
    data_bytes = file_bytes - data - 8
    sizes = [(4, file_bytes - 8), (data + 4, data_bytes)]
    fact = header.find(b"fact", 0, data)
    if fact >= 0:
        block = struct.unpack_from("<H", header, 32)[0]
        sizes.append((fact + 8, data_bytes // max(block, 1)))
    return sizes


class ProgressLine:
    """One line that rewrites itself; silent where the stream is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, item: Mapping[str, Any], received: int, seconds: float) -> None:
        if self._shown:
            self._stream.write(f"\r\x1b[K{progress_text(item, received, seconds)}")
            self._stream.flush()


def progress_text(item: Mapping[str, Any], received: int, seconds: float) -> str:
    """`[######..................]  25 %, 3.2 s of audio, 4 s` or what is known of it."""
    progress = item.get("progress") or {}
    share = progress.get("share")
    parts = []
    if share is not None:
        done = round(_BAR * min(max(float(share), 0.0), 1.0))
        parts.append(f"[{'#' * done}{'.' * (_BAR - done)}] {100 * float(share):3.0f} %")
    elif not received:
        parts.append("waiting in the queue" if item.get("state") == "IN_QUEUE" else "working")
    if progress.get("audio_seconds") is not None:
        parts.append(f"{float(progress['audio_seconds']):.1f} s of audio")
    if received:
        parts.append(f"{received / 1000:.0f} kB received")
    return ", ".join([*parts, f"{seconds:.0f} s"])


def summary(result: Mapping[str, Any], path: Path) -> str:
    """`speech.wav: 3.20 s of audio, 0.31x real time, seed 7`, and the result's warnings below."""
    timings = result.get("timings") or {}
    facts = [
        (result.get("duration_seconds"), "{:.2f} s of audio"),
        (timings.get("real_time_factor"), "real-time factor {:.2f}"),
        (result.get("seed"), "seed {}"),
        (result.get("finish_reason"), "finish reason {}"),
    ]
    said = ", ".join(text.format(value) for value, text in facts if value is not None)
    return "\n".join([f"{path}: {said}", *(f"warning: {warning}" for warning in result.get("warnings") or [])])
