"""What a batch has done so far, as lines of JSON that are appended: a process that is killed at any moment, or a disk
that fills up, leaves enough of it for the next one to go on.

    {"event": "sending", "key"}                     just before a job is submitted
    {"event": "sent", "key", "job", "target"}       the platform has taken it, under this id
    {"event": "refused", "key"}                     the platform has not taken it
    {"event": "ended", "key"}                       its run on the platform came to nothing
    {"event": "done", "key", "file", "part", ...}   its audio is complete in a part, which is then renamed to the file

Two processes append to it, the batch and its submitter. Each line is one write, so that lines do not mix.

A record whose write was cut short counts for nothing, wherever it stands: nobody did anything on the strength of it.
The next record may stand behind it in the same line. Each begins with the same bytes, which JSON escapes in a text.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverless.client.errors import ClientError, StorageError

Record = dict[str, Any]

_BEGIN = b'{"event": '
_NUL = b"\0"  # what a file system may show of a write that a power cut has lost


@dataclass
class JournalState:
    """What the lines say together.

    submitted: the sent record of each job that the platform has, by key. doubtful: keys of jobs that were being
    submitted when both processes ended. done: the last done record of each file.
    """

    submitted: dict[str, Record] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    done: dict[str, Record] = field(default_factory=dict)

    def apply(self, record: Record) -> None:
        """Raises KeyError or TypeError for what is no record."""
        event, key = record["event"], record["key"]
        if event == "sending":
            self.doubtful.add(key)
        elif event in ("sent", "refused", "ended", "done"):
            self.doubtful.discard(key)
            self.submitted.pop(key, None)
            if event == "sent":
                self.submitted[key] = record
            elif event == "done":
                self.done[record["file"]] = record
        else:
            raise KeyError(event)


class Journal:
    """Appends records to a file, and keeps what all of them say."""

    def __init__(self, path: Path) -> None:
        """Raises ClientError."""
        self.state = JournalState()
        self._path = path
        self._room: dict[str, tuple[int, int]] = {}  # offset and bytes that are kept for a key's next record
        try:
            has_open_line = self._read()
            self._appending = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            self._overwriting = os.open(path, os.O_WRONLY)
            if has_open_line:  # it may be a whole record, which nothing may be appended to
                _write(self._appending, b"\n")
        except OSError as error:
            raise self._cannot_be_written(error) from None

    def append(self, event: str, key: str, *, room: int = 0, **facts: Any) -> None:
        """Returns when the record is on the disk.

        room: bytes of the key's next record that get their place now, so that a disk that fills up in between does not
        lose it. Only a process with one thread asks for them. Raises StorageError.
        """
        record = {"event": event, "key": key, **facts}
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        offset, kept = self._room.pop(key, (0, 0))
        try:
            if len(line) <= kept:
                os.lseek(self._overwriting, offset, os.SEEK_SET)
                _write(self._overwriting, line)
            else:
                _write(self._appending, line + b" " * room + b"\n" * bool(room))
                if room:
                    self._room[key] = os.lseek(self._appending, 0, os.SEEK_CUR) - room - 1, room
        except OSError as error:
            raise self._cannot_be_written(error) from None
        self.state.apply(record)

    def heard(self, record: Mapping[str, Any]) -> None:
        """Take note of a record that another process has appended."""
        self.state.apply(dict(record))

    def close(self) -> None:
        os.close(self._appending)
        os.close(self._overwriting)

    def _read(self) -> bool:
        """Whether the last line lacks its end. Raises ClientError, OSError."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return False
        for number, text in _records(data):
            try:
                self.state.apply(json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                if isinstance(error, ValueError) and (_BEGIN.startswith(text[: len(_BEGIN)]) or _NUL in text):
                    continue  # cut short
                raise ClientError(
                    f"{self._path} is damaged in line {number}; take the results that are there and use another folder."
                ) from None
        return bool(data) and not data.endswith(b"\n")

    def _cannot_be_written(self, error: OSError) -> StorageError:
        return StorageError(f"{self._path} cannot be written: {error.strerror}.")


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each record, and each piece of one, with the number of its line."""
    for number, line in enumerate(data.split(b"\n"), 1):
        for text in line.replace(_BEGIN, b"\n" + _BEGIN).split(b"\n"):
            if text := text.strip():
                yield number, text


def _write(descriptor: int, data: bytes) -> None:
    """Returns when all of it is on the disk. Raises OSError."""
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
