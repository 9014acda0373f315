"""Reads a file whose path a client gave, but only from given folders."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_PASSING = {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    *(errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EREMOTEIO),
}


class FileRefused(Exception):
    """Why a file is not read. The message does not contain its path."""


class FileUnreachable(FileRefused):
    """The same, where the disk, the network or the process is at fault and the next try may succeed."""


def may_pass(error: OSError) -> bool:
    """Whether an error tells of the state of a disk, a network or this process, and nothing of the file."""
    return error.errno in _PASSING


def read_inside(path: Path, folders: Sequence[Path], max_bytes: int) -> bytes:
    """The content of a regular file that lies, once every symbolic link is resolved, in one of `folders`.

    Raises FileRefused, and FileUnreachable of these. Opens no file outside of them and never blocks on a pipe or a
    device.
    """
    try:
        real = path.resolve(strict=True)
        allowed = any(real.is_relative_to(folder.resolve()) for folder in folders)
    except OSError as error:  # missing, forbidden, a loop of links, too long
        raise _refused(error, "it does not exist or cannot be reached") from None
    except (ValueError, RuntimeError):  # a null byte, a loop of links
        raise FileRefused("it does not exist or cannot be reached") from None
    if not allowed:
        raise FileRefused("it lies outside the allowed folders")
    try:
        # O_NOFOLLOW and O_NONBLOCK: a link or a pipe may have replaced the file since it was checked.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, "it cannot be opened") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileRefused("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)  # not by its stated size: a file may grow while it is read
    except OSError as error:
        raise _refused(error, "it cannot be read") from None
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise FileRefused(f"it has more than {max_bytes} bytes")
    return data


def _refused(error: OSError, why: str) -> FileRefused:
    return FileUnreachable(why) if may_pass(error) else FileRefused(why)
