"""What a batch has done so far, as lines of JSON that are appended: a process that is killed at any moment leaves
enough of it for the next one to go on.

    {"event": "sending", "key"}                     just before a job is submitted
    {"event": "sent", "key", "job", "target"}       the platform has taken it, under this id
    {"event": "refused", "key"}                     the platform has not taken it
    {"event": "ended", "key"}                       its run on the platform came to nothing
    {"event": "done", "key", "file", "part", ...}   its audio is complete in a part, which is then renamed to the file

Two processes append to it, the batch and its submitter. Each line is one write, so that lines do not mix.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serverless.client.errors import ClientError, StorageError

Record = dict[str, Any]


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

    def __init__(self, path: Path, *, repair: bool = True) -> None:
        """repair: cut off a last line that was not written whole; nobody else may be writing then.

        Raises ClientError.
        """
        self.state = JournalState()
        try:
            self._read(path, repair)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}.") from None

    def append(self, event: str, key: str, **facts: Any) -> None:
        """Returns when the line is on the disk. Raises StorageError."""
        record = {"event": event, "key": key, **facts}
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
        try:
            if os.write(self._descriptor, line) != len(line):
                raise OSError(28, "the disk is full")
            os.fsync(self._descriptor)
        except OSError as error:
            raise StorageError(f"The journal of the batch cannot be written: {error.strerror}.") from None
        self.state.apply(record)

    def heard(self, record: Mapping[str, Any]) -> None:
        """Take note of a record that another process has appended."""
        self.state.apply(dict(record))

    def close(self) -> None:
        os.close(self._descriptor)

    def _read(self, path: Path, repair: bool) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                self.state.apply(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise ClientError(
                    f"{path} is damaged in line {number}; take the results that are there and use another folder."
                ) from None
        if repair and whole < len(data):
            os.truncate(path, whole)
