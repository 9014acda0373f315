"""Which files lie in a folder of voices, and whether they have changed since."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MAX_FILES = 10_000
_READ = (".wav", ".txt", ".safetensors")

Signature = tuple[int, int, int]
"""A file's size, time of change in ns and inode: another one means other content."""


def scan(folder: Path) -> dict[str, Signature]:
    """Name -> signature of the files that could be voices, the first MAX_FILES of the folder. Raises OSError."""
    found = {}
    with os.scandir(folder) as entries:
        for entry, _ in zip(entries, range(MAX_FILES), strict=False):
            if entry.name.endswith(_READ) or entry.name == "config.json":
                with suppress(OSError):  # gone meanwhile, or a link to nowhere
                    found[entry.name] = _signature(entry.stat())
    return dict(sorted(found.items()))


def signature_of(folder: Path, file: str) -> Signature | None:
    """The signature of a file below the folder; None where there is none."""
    try:
        return _signature((folder / file).stat())
    except (OSError, ValueError):
        return None


def _signature(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns, status.st_ino
