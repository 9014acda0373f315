"""The file that the client leaves behind: complete or not at all, and never in the place of something else."""

from __future__ import annotations

import os
import secrets
import stat
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from serverless.client.download import MAX_FILE_BYTES
from serverless.client.errors import ClientError

_UNKNOWN_LENGTH = 0xFFFFFFFF
_HEADER_BYTES = 128  # the chunks of a WAV header lie in its first few dozen bytes
_OTHER_NAMES = 100


class AudioFile:
    """A file that appears under its name only when `keep` was called. Until then it has a name that nobody knows.

    What was there when it began is replaced; what has appeared since is left, and the audio gets another name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._partial: Path | None = None
        self.size = 0

    def __enter__(self) -> Self:
        self._partial = self._path.with_name(f".{self._path.name[:100]}.{secrets.token_hex(8)}.part")
        try:
            self._before = _identity(self._path)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self._partial, flags, 0o666), "w+b")
        except OSError as error:
            raise self._cannot_be_written(error) from None
        except ValueError:
            raise ClientError("The output's name cannot be a file's.") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Without `keep` nothing remains."""
        if self._file is not None:
            self.discard()
            with suppress(OSError):  # the file is gone anyway
                self._file.close()

    def discard(self) -> None:
        """Remove what was written so far, if anything. Raises OSError."""
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Raises ClientError when the disk or the largest size is full."""
        assert self._file is not None
        self.size += len(data)
        if self.size > MAX_FILE_BYTES:
            raise ClientError(f"The endpoint sent more than {MAX_FILE_BYTES // 1_000_000} MB of audio.")
        try:
            self._file.write(data)
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def keep(self, audio_format: str) -> Path:
        """Finish the file: a streamed WAV learns its length at last. Returns where it is. Raises ClientError."""
        assert self._file is not None
        assert self._partial is not None
        try:
            if audio_format == "wav":
                complete_wav(self._file, self.size)
            self._file.close()
            self._file = None
            return self._named(self._partial)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise self._cannot_be_written(error) from None

    def _named(self, partial: Path) -> Path:
        if self._before is not None and _identity(self._path) == self._before:
            partial.replace(self._path)
            return self._path
        for name in (self._path, *(_numbered(self._path, number) for number in range(1, _OTHER_NAMES))):
            try:
                _rename_to_new(partial, name)
            except FileExistsError:
                continue
            return name
        partial.unlink()
        raise ClientError(f"{self._path} appeared meanwhile, and so did every name beside it.")

    def _cannot_be_written(self, error: OSError) -> ClientError:
        return ClientError(f"{self._path} cannot be written: {error.strerror or type(error).__name__}.")


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells one file of this name from another; None where there is none. Raises OSError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(21, "it is a folder")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        raise OSError(22, "it is not a file")
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _rename_to_new(source: Path, target: Path) -> None:
    """Raises FileExistsError when there is a file of that name."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the next best
        if os.path.lexists(target):
            raise FileExistsError from None
        source.replace(target)
    else:
        source.unlink()


def complete_wav(file: BinaryIO, size: int) -> None:
    """Write the length into the header of a WAV of `size` bytes that was begun before it was known."""
    file.seek(0)
    header = file.read(_HEADER_BYTES)
    for offset, value in wav_sizes(header, size):
        file.seek(offset)
        file.write(struct.pack("<I", value))


def wav_sizes(header: bytes, file_bytes: int) -> list[tuple[int, int]]:
    """(offset, value) of every size in a WAV header that was written before the length was known."""
    data = header.find(b"data")
    if header[:4] != b"RIFF" or data < 0 or header[data + 4 : data + 8] != struct.pack("<I", _UNKNOWN_LENGTH):
        return []
    data_bytes = file_bytes - data - 8
    sizes = [(4, file_bytes - 8), (data + 4, data_bytes)]
    fact = header.find(b"fact", 0, data)
    if fact >= 0 and fact + 12 <= data and data >= 34:
        block = struct.unpack_from("<H", header, 32)[0]
        sizes.append((fact + 8, data_bytes // max(block, 1)))
    return sizes
