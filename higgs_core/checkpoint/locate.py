"""Finds a checkpoint: a local folder, RunPod's model cache, the hub's cache on disk, and only then the hub.

A complete checkpoint on this machine is used without contacting the hub, so that a worker starts during the hub's
outages too. A renamed repository is found under each of its names.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from higgs_core.built_in import BUILT_IN
from higgs_core.checkpoint.snapshot import CONFIG, choose_weights, what_is_missing
from higgs_core.errors import ModelLoadError
from higgs_core.repositories import names_of, pinned_revision

log = logging.getLogger(__name__)

RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")

What = Literal["model", "audio tokenizer", "tokenizer"]
_SMALL_FILES = ("*.json", "*.model", "*.txt")
_DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class _Wanted:
    """A checkpoint that is looked for. names: every name of its repository.  files: what must be in its folder."""

    what: What
    names: tuple[str, ...]
    subfolder: str
    revision: str | None
    files: tuple[str, ...]

    @property
    def repository(self) -> str:
        """The name that the caller gave."""
        return self.names[0]

    def missing_in(self, snapshot: Path) -> str | None:
        """What a snapshot lacks to be this checkpoint, or None."""
        return what_is_missing(snapshot / self.subfolder, self.files, weights=self.what != "tokenizer")


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
    wanted = _Wanted(what, names_of(repository), subfolder, revision or pinned_revision(repository), files)
    snapshot = _on_this_machine(wanted, cache) or _from_hub(wanted)
    folder = snapshot / subfolder
    if not folder.is_dir():
        raise ModelLoadError(f"The {what} {repository!r} has no folder {subfolder!r}.")
    return folder


def _on_this_machine(wanted: _Wanted, runpod_cache: Path) -> Path | None:
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


def _snapshots(cache: Path, wanted: _Wanted, *, any_revision: bool) -> Iterator[Path]:
    """Snapshots in a cache: those of the wanted revision under each name, then, if asked for, every other one."""
    folders = [cache / f"models--{name.replace('/', '--')}" for name in wanted.names]
    folders = [spelled for folder in folders for spelled in (folder, folder.with_name(folder.name.lower()))]
    found = [snapshot for folder in folders for snapshot in _at_revision(folder, wanted.revision)]
    if any_revision:
        found += [snapshot for folder in folders for snapshot in _at_revision(folder, None)]
        for folder in folders:
            found += sorted((folder / "snapshots").glob("*/"))
    yield from dict.fromkeys(found)


def _at_revision(folder: Path, revision: str | None) -> list[Path]:
    """The snapshot of a commit, or of the commit that a branch or tag is known to mean."""
    reference = folder / "refs" / (revision or _DEFAULT_BRANCH)
    commits = [revision, reference.read_text().strip() if reference.is_file() else None]
    snapshots = [folder / "snapshots" / commit for commit in commits if commit]
    return [snapshot for snapshot in snapshots if snapshot.is_dir()]


def _from_hub(wanted: _Wanted) -> Path:
    try:
        return _download(wanted)
    except ModelLoadError:
        raise
    except GatedRepoError:
        remedy = "ask for access on the hub and set HF_TOKEN"
    except RevisionNotFoundError:
        none = "the one that is known to be good" if pinned_revision(wanted.repository) else "its main branch"
        remedy = f"the repository has no such revision; set another, or none for {none}"
    except RepositoryNotFoundError:
        remedy = "check the name, and set HF_TOKEN if the repository is private"
    except Exception as error:  # the hub's library lets its transport's own errors through, and those differ by version
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            remedy = "the disk is full; give the container a larger one"
        else:
            remedy = (
                f"the hub did not answer as expected ({type(error).__name__}); check the network or use a local folder"
            )
    raise ModelLoadError(
        f"The {wanted.what} {wanted.repository!r} (revision {wanted.revision or _DEFAULT_BRANCH}) cannot be "
        f"downloaded: {remedy}."
    )


def _download(wanted: _Wanted) -> Path:
    """Download under the first name that the hub knows."""
    *others, last = wanted.names
    for name in others:
        try:
            return _download_as(name, wanted)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            log.info("The hub does not know %s; trying its other name", name)
    return _download_as(last, wanted)


def _download_as(repository: str, wanted: _Wanted) -> Path:
    """The small files first, among them the index that says which files hold the weights; then those, each once."""
    log.info("Downloading the %s %s (revision %s)", wanted.what, repository, wanted.revision or _DEFAULT_BRANCH)
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or None
    prefix = f"{wanted.subfolder}/" if wanted.subfolder else ""
    small = [prefix + pattern for pattern in _SMALL_FILES]
    snapshot = Path(snapshot_download(repository, revision=wanted.revision, allow_patterns=small, token=token))
    if wanted.what == "tokenizer" or not (snapshot / wanted.subfolder).is_dir():
        return snapshot
    commit = snapshot.name
    listing = HfApi(token=token).list_repo_files(repository, revision=commit)
    inside = [name.removeprefix(prefix) for name in listing if name.startswith(prefix)]
    weights = [prefix + name for name in choose_weights(snapshot / wanted.subfolder, inside)]
    if weights:
        snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=weights, token=token))
        if missing := what_is_missing(snapshot / wanted.subfolder, (), weights=True):
            raise ModelLoadError(f"The download of the {wanted.what} {repository!r} is not whole: {missing}.")
    return snapshot
