"""The folder of a batch: one run at a time, results that appear whole, and a journal of what was done.

DIR/hello.wav            results
DIR/report.json          what became of each job
DIR/.batch/journal.jsonl
DIR/.batch/parts/        audio that is being received
DIR/.batch/lock          held by the run, and submitter.lock by the process that submits its jobs
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from filelock import FileLock, Timeout

from serverless.client.batch.journal import Journal, Record
from serverless.client.batch.manifest import BatchJob
from serverless.client.download import MAX_FILE_BYTES
from serverless.client.errors import ClientError, StorageError
from serverless.client.output import complete_wav

SUBMITTER_SECONDS = 180.0
"""How long the submitter of a run that was killed may take to end; its requests have a shorter limit."""

REPORT = "report.json"


class BatchFolder:
    """Use as a context manager; the block has the folder for itself. Raises ClientError."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self._say = say
        self._inside = path / ".batch"
        self._parts = self._inside / "parts"
        self.journal_path = self._inside / "journal.jsonl"
        self.submitter_lock = self._inside / "submitter.lock"
        self._lock = FileLock(self._inside / "lock")

    def __enter__(self) -> Self:
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ClientError(f"Another run works in {self.path}; wait until it has ended.") from None
        except (OSError, ValueError) as error:
            raise StorageError(f"{_cannot_be_written(self.path, error)} Give another folder with -o.") from None
        try:
            self._wait_for_submitter()
            self.journal = Journal(self.journal_path)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._finish_renames()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()
        self._lock.release()

    def is_done(self, job: BatchJob) -> bool:
        """Whether the job's audio is there, from this run or an earlier one."""
        record = self.journal.state.done.get(job.file)
        return record is not None and record["key"] == job.key and (self.path / job.file).is_file()

    def facts(self, job: BatchJob) -> Mapping[str, Any]:
        """What the done record of a job says of its result."""
        found = self.journal.state.done[job.file].get("facts")
        return found if isinstance(found, dict) else {}

    def refuse_foreign(self, jobs: Iterable[BatchJob]) -> None:
        """Raises ClientError where a result would replace a file that no batch of this folder has made."""
        known = self.journal.state.done
        for job in jobs:
            if job.file not in known and os.path.lexists(self.path / job.file):
                raise ClientError(f"{self.path / job.file} is there already; move it, or use another folder.")

    def part(self) -> Part:
        """A new file for audio that is being received. Raises StorageError."""
        try:
            return Part(self._parts / secrets.token_hex(12))
        except OSError as error:
            raise _cannot_be_written(self.path, error) from None

    def keep(self, part: Part, job: BatchJob, facts: Mapping[str, Any]) -> None:
        """Let the audio in a part be the job's result. Raises StorageError."""
        try:
            part.complete("wav" if facts.get("audio_format") == "wav" else "")
            part.promised = True
            self.journal.append("done", job.key, file=job.file, part=part.path.name, facts=dict(facts))
            os.replace(part.path, self.path / job.file)
        except OSError as error:
            raise _cannot_be_written(self.path / job.file, error) from None

    def write(self, name: str, text: str) -> None:
        """A text file of the folder, whole or not at all. Raises StorageError."""
        partial = self._parts / secrets.token_hex(12)
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, self.path / name)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise _cannot_be_written(self.path / name, error) from None

    def write_report(self, report: Mapping[str, Any]) -> None:
        self.write(REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")

    def _wait_for_submitter(self) -> None:
        """Whoever was killed may have left a process that waits for the platform's last answers, and writes them."""
        lock = FileLock(self.submitter_lock)
        with suppress(Timeout), lock.acquire(timeout=0):
            return
        self._say("Waiting for the last submission of the run before.")
        try:
            lock.acquire(timeout=SUBMITTER_SECONDS).lock.release()
        except Timeout:
            raise ClientError(f"The run before still submits jobs from {self.path}; try again later.") from None

    def _finish_renames(self) -> None:
        """Rename what a killed run had complete, and remove what it had not."""
        file = self.path
        try:
            for record in self.journal.state.done.values():
                file = self.path / str(record["file"])
                if (part := self._part_of(record)) is not None and part.is_file():
                    os.replace(part, file)
            file = self._parts
            for left in self._parts.iterdir():
                left.unlink()
        except OSError as error:
            raise _cannot_be_written(file, error) from None

    def _part_of(self, record: Record) -> Path | None:
        name = record.get("part")
        return self._parts / name if isinstance(name, str) and name.isalnum() else None


class Part:
    """A file of audio that is not complete yet. Raises OSError.

    promised: the journal may name it, so that only the next run can say whether it is a result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.promised = False
        self._file: BinaryIO = path.open("w+b")

    def write(self, data: bytes) -> None:
        """Raises StorageError when the disk is full, ClientError for more than a file may have."""
        self.size += len(data)
        if self.size > MAX_FILE_BYTES:
            raise ClientError(f"The endpoint sent more than {MAX_FILE_BYTES // 1_000_000} MB of audio.")
        try:
            self._file.write(data)
        except OSError as error:
            raise _cannot_be_written(self.path.parent, error) from None

    def complete(self, audio_format: str) -> None:
        """Everything is on the disk when it returns; a streamed WAV learns its length."""
        if audio_format == "wav":
            complete_wav(self._file, self.size)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Remove it, unless it is promised."""
        with suppress(OSError):
            self._file.close()
        if not self.promised:
            with suppress(OSError):
                self.path.unlink()


def _cannot_be_written(path: Path, error: Exception) -> StorageError:
    return StorageError(f"{path} cannot be written: {getattr(error, 'strerror', None) or type(error).__name__}.")
