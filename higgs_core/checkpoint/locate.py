"""Finds a checkpoint: a local folder, RunPod's model cache, the hub's cache on disk, and only then the hub.

A complete checkpoint on this machine is used without contacting the hub, so that a worker starts during the hub's
outages too. A renamed repository is found under each of its names.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from huggingface_hub import constants

from higgs_core.built_in import BUILT_IN
from higgs_core.checkpoint.download import download
from higgs_core.checkpoint.snapshot import CONFIG
from higgs_core.checkpoint.wanted import DEFAULT_BRANCH, Wanted, What
from higgs_core.errors import ModelLoadError
from higgs_core.repositories import names_of, pinned_revision

log = logging.getLogger(__name__)

RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")


def locate(
    name: str,
    revision: str | None = None,
    *,
    what: What = "model",
    also: Sequence[str] = (),
    cache: Path = RUNPOD_CACHE,
) -> Path:
    """The folder of a checkpoint: a path, `org/name` or `org/name/subfolder`.

    revision: commit, tag or branch on the hub, by default the one that is known to be good; ignored for a local folder.
    A snapshot in RunPod's cache is taken at the wanted revision if it is there, else as it is, because that cache holds
    one revision only. also: files that must be there beside config and weights.
    Raises ModelLoadError saying what to do.
    """
    local = Path(name).expanduser()
    if name.strip() and local.is_dir():
        return local
    parts = name.split("/")
    if len(parts) < 2 or local.is_absolute() or not all(parts):
        built_in = f", nor built in ({', '.join(BUILT_IN)})" if what == "model" else ""
        raise ModelLoadError(f"The {what} {name!r} is neither a folder here nor a hub id such as 'org/name'{built_in}.")
    repository, subfolder = "/".join(parts[:2]), "/".join(parts[2:])
    files = ("tokenizer.json",) if what == "tokenizer" else (CONFIG, *also)
    wanted = Wanted(what, names_of(repository), subfolder, revision or pinned_revision(repository), files)
    snapshot = _on_this_machine(wanted, cache) or download(wanted)
    folder = snapshot / subfolder
    if not folder.is_dir():
        raise ModelLoadError(f"The {what} {repository!r} has no folder {subfolder!r}.")
    return folder


def _on_this_machine(wanted: Wanted, runpod_cache: Path) -> Path | None:
    """A complete snapshot. RunPod's cache and the hub's own have the same layout."""
    for snapshot in _snapshots(runpod_cache, wanted, any_revision=True):
        missing = wanted.missing_in(snapshot)
        if missing is not None:
            log.warning("RunPod's cache does not hold %s whole: %s; looking further", wanted.repository, missing)
            continue
        if wanted.revision and snapshot.name != wanted.revision:
            log.warning("RunPod's cache holds another revision of %s than the one pinned; using it", wanted.repository)
        return snapshot
    for snapshot in _snapshots(Path(constants.HF_HUB_CACHE), wanted, any_revision=False):
        missing = wanted.missing_in(snapshot)
        if missing is None:
            return snapshot
        log.warning("The download of %s on this machine is not whole: %s", wanted.repository, missing)
    return None


def _snapshots(cache: Path, wanted: Wanted, *, any_revision: bool) -> Iterable[Path]:
    """Snapshots in a cache: those of the wanted revision under each name, then, if asked for, every other one.

    None where this process may not look: a volume may belong to root alone.
    """
    try:
        return _listed(cache, wanted, any_revision=any_revision)
    except PermissionError:
        log.warning("A cache of models on this machine cannot be read by the user %d; looking further", os.geteuid())
        return ()


def _listed(cache: Path, wanted: Wanted, *, any_revision: bool) -> Iterable[Path]:
    folders = [cache / f"models--{name.replace('/', '--')}" for name in wanted.names]
    folders = [spelled for folder in folders for spelled in (folder, folder.with_name(folder.name.lower()))]
    found = [snapshot for folder in folders for snapshot in _at_revision(folder, wanted.revision)]
    if any_revision:
        found += [snapshot for folder in folders for snapshot in _at_revision(folder, None)]
        for folder in folders:
            found += sorted((folder / "snapshots").glob("*/"))
    return dict.fromkeys(found)


def _at_revision(folder: Path, revision: str | None) -> list[Path]:
    """The snapshot of a commit, or of the commit that a branch or tag is known to mean."""
    reference = folder / "refs" / (revision or DEFAULT_BRANCH)
    commits = [revision, reference.read_text().strip() if reference.is_file() else None]
    snapshots = [folder / "snapshots" / commit for commit in commits if commit]
    return [snapshot for snapshot in snapshots if snapshot.is_dir()]
