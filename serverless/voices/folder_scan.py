"""Which files lie in a folder of voices, and whether they have changed since."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from higgs_core.contained_files import may_pass

MAX_ENTRIES = 100_000
"""Of the folder, whatever they are."""

MAX_FILES = 25_000
"""That could be voices: with fewer, not all of the voices that the settings allow would have a place."""

_KEPT = ".safetensors"
_TWINS = {".wav": ".txt", ".txt": ".wav"}
_CONFIG = "config.json"

Signature = tuple[int, int, int]
"""A file's size, time of change in ns and inode: another one means other content."""


@dataclass(frozen=True)
class Listing:
    """files: name -> signature of the files that could be voices, by name.  complete: False where there are more."""

    files: dict[str, Signature]
    complete: bool


def scan(folder: Path) -> Listing:
    """What lies in the folder: config.json, what workers wrote, and clips with a transcript beside them, in this order
    where it is too much. What else config.json names is looked for by its name.

    Raises OSError where the folder cannot be read, or a file's signature not at the moment.
    """
    with os.scandir(folder) as entries:
        seen = list(itertools.islice(entries, MAX_ENTRIES + 1))
    complete = len(seen) <= MAX_ENTRIES
    first = [entry for entry in seen if entry.name.endswith(_KEPT) or entry.name == _CONFIG]
    names = {entry.name for entry in seen}
    pairs = sorted((entry for entry in seen if _twin(entry.name) in names), key=lambda entry: entry.name)
    chosen = [*first, *pairs]
    found = {}
    for entry in chosen[:MAX_FILES]:
        try:
            found[entry.name] = _signature(entry.stat())
        except OSError as error:  # gone meanwhile, or a link to nowhere
            if may_pass(error):
                raise
    return Listing(dict(sorted(found.items())), complete and len(chosen) <= MAX_FILES)


def _twin(name: str) -> str | None:
    """The clip of a transcript NAME.txt, the transcript of a clip NAME.wav."""
    stem, suffix = os.path.splitext(name)
    return stem + _TWINS[suffix] if suffix in _TWINS else None


def signature_of(folder: Path, file: str) -> Signature | None:
    """The signature of a file below the folder; None where there is none. Raises OSError where that cannot be told at
    the moment."""
    try:
        return _signature((folder / file).stat())
    except ValueError:  # a null byte
        return None
    except OSError as error:
        if may_pass(error):
            raise
        return None


def _signature(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns, status.st_ino
