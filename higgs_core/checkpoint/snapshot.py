"""Whether a folder holds a complete checkpoint, and which files hold its weights. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from higgs_core.checkpoint.safetensors_header import read_header
from higgs_core.errors import ModelLoadError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: the index's shards where each of them is there, else the single file.

    A repository may hold the weights in both forms, of which a download takes one. Raises ModelLoadError naming what is
    missing or damaged.
    """
    shards = shard_names(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if shards and not missing:
        return [folder / name for name in shards]
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    raise ModelLoadError(f"The checkpoint's folder lacks {', '.join(missing or [SINGLE_FILE])}; download it again.")


def shard_names(folder: Path) -> list[str]:
    """The files that the folder's index names; none without an index. Raises ModelLoadError for a damaged one."""
    try:
        return sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelLoadError(f"{INDEX} is damaged; download it again.") from None


def choose_weights(folder: Path, listing: Iterable[str]) -> list[str]:
    """Which weight files of a repository to download, by its listing and the index that lies in `folder` already.

    Every tensor once: the shards where the repository has all that its index names, else the single file. Nothing where
    it has no weights in this format. Raises ModelLoadError when some of the shards are all that it has.
    """
    listed = set(listing)
    shards = shard_names(folder)
    absent = [name for name in shards if name not in listed]
    if shards and not absent:
        return shards
    if SINGLE_FILE in listed:
        return [SINGLE_FILE]
    if absent:
        raise ModelLoadError(
            f"The repository lacks {', '.join(absent)}, which its index names; use another revision or a whole folder."
        )
    return []


def what_is_missing(folder: Path, files: Iterable[str], *, weights: bool) -> str | None:
    """What keeps a folder from being a whole checkpoint, as the end of a sentence; None for a whole one.

    files: names that must be there.  weights: whether weights must be there too, every file as long as its header says.
    """
    absent = [name for name in files if not (folder / name).is_file()]
    if absent:
        return f"it lacks {', '.join(absent)}"
    if not weights:
        return None
    try:
        for file in weight_files(folder):
            read_header(file)
    except ModelLoadError as error:
        return error.message.removesuffix(".")
    except ValueError as error:
        return f"{file.name} {error}"
    return None
