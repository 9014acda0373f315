"""Writes and removes the files of voices in the operator's folder, which may be read-only, full or shared."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
import threading
from pathlib import Path

from serverless.voices.voice_file import SUFFIX, VoiceRecord, to_bytes

_log = logging.getLogger(__name__)

_STALE_SECONDS = 3600
_SCRAP = ".voice-"


class VoiceStore:
    """folder: None keeps nothing.  read_only: nothing is written to it or removed.

    Files appear whole or not at all, also for other workers on the same volume.
    """

    def __init__(self, folder: Path | None, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only
        self._lock = threading.Lock()
        self._told = False

    def write(self, record: VoiceRecord, *, replace: bool) -> bool:
        """Keep a voice as a file; False where that is not possible, which is logged once.

        replace: over a file of that name. Otherwise raises FileExistsError where there is one.
        """
        if self._folder is None or self._read_only:
            return False
        scrap = self._folder / f"{_SCRAP}{secrets.token_hex(8)}.tmp"
        target = self._folder / f"{record.name}{SUFFIX}"
        try:
            try:
                self._write_through(scrap, to_bytes(record))
                if replace:
                    os.replace(scrap, target)
                else:
                    self._put_beside(scrap, target)
                self._settle()
            finally:
                with contextlib.suppress(OSError):
                    scrap.unlink(missing_ok=True)
        except FileExistsError:
            raise
        except OSError as error:
            self._tell(error)
            return False
        with self._lock:
            self._told = False
        return True

    def remove(self, name: str) -> None:
        """Remove a voice's file. Raises FileNotFoundError, and OSError where the folder cannot be changed."""
        if self._folder is None:
            raise FileNotFoundError
        if self._read_only:
            raise PermissionError
        (self._folder / f"{name}{SUFFIX}").unlink()
        self._settle()

    def tidy(self, now: float) -> None:
        """Remove what a worker that was killed in the middle of writing has left: half a file, or an empty one that
        holds a name. now: seconds since 1970."""
        if self._folder is None or self._read_only:
            return
        with contextlib.suppress(OSError):
            for left in (*self._folder.glob(f"{_SCRAP}*.tmp"), *self._folder.glob(f"*{SUFFIX}")):
                with contextlib.suppress(OSError):
                    status = left.lstat()
                    holds_nothing = left.suffix == ".tmp" or (stat.S_ISREG(status.st_mode) and not status.st_size)
                    if holds_nothing and now - status.st_mtime > _STALE_SECONDS:
                        left.unlink()

    @staticmethod
    def _write_through(file: Path, data: bytes) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    @staticmethod
    def _put_beside(scrap: Path, target: Path) -> None:
        """Give the file its name unless another has it. Raises FileExistsError."""
        try:
            os.link(scrap, target)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
                raise
            # A file system without hard links: an empty file takes the name first.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            try:
                os.replace(scrap, target)
            except OSError:
                target.unlink()
                raise

    def _settle(self) -> None:
        """Have the folder's own entry written; not every file system does that."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _tell(self, error: OSError) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            reason = errno.errorcode.get(error.errno or 0, "an error")
            _log.warning("The voice folder takes no files (%s); voices are kept in memory until it does", reason)
