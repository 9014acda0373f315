"""Downloads a checkpoint from the hub: room is checked before, progress is logged, and the weights' hashes after."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from higgs_core.checkpoint.download_progress import DownloadProgress, stored_bytes
from higgs_core.checkpoint.snapshot import choose_weights, what_is_missing
from higgs_core.checkpoint.wanted import DEFAULT_BRANCH, Wanted
from higgs_core.errors import ModelLoadError
from higgs_core.repositories import pinned_revision

log = logging.getLogger(__name__)

_SMALL_FILES = ("*.json", "*.model", "*.txt")
_SPARE_BYTES = 256 * 2**20
"""Room that is left on the disk: logs and temporary files of others."""


def download(wanted: Wanted) -> Path:
    """The snapshot's folder. Raises ModelLoadError saying what to do."""
    disable_progress_bars()  # a log is not a terminal; DownloadProgress writes lines
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
        elif isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            remedy = "its folder cannot be written; set HF_HOME to a folder that can, or have the model cached"
        else:
            remedy = (
                f"the hub did not answer as expected ({type(error).__name__}); check the network or use a local folder"
            )
    raise ModelLoadError(
        f"The {wanted.what} {wanted.repository!r} (revision {wanted.revision or DEFAULT_BRANCH}) cannot be "
        f"downloaded: {remedy}."
    )


def _download(wanted: Wanted) -> Path:
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


def _download_as(repository: str, wanted: Wanted) -> Path:
    """The small files first, among them the index that says which files hold the weights; then those, each once."""
    log.info("Downloading the %s %s (revision %s)", wanted.what, repository, wanted.revision or DEFAULT_BRANCH)
    token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or None
    prefix = f"{wanted.subfolder}/" if wanted.subfolder else ""
    small = [prefix + pattern for pattern in _SMALL_FILES]
    snapshot = Path(snapshot_download(repository, revision=wanted.revision, allow_patterns=small, token=token))
    if wanted.what == "tokenizer" or not (snapshot / wanted.subfolder).is_dir():
        return snapshot
    tree = HfApi(token=token).list_repo_tree(repository, recursive=True, revision=snapshot.name)
    inside = {
        file.path.removeprefix(prefix): file
        for file in tree
        if isinstance(file, RepoFile) and file.path.startswith(prefix)
    }
    weights = [inside[name] for name in choose_weights(snapshot / wanted.subfolder, inside)]
    if weights:
        _download_weights(repository, weights, snapshot, wanted, token)
    return snapshot


def _download_weights(
    repository: str, weights: Sequence[RepoFile], snapshot: Path, wanted: Wanted, token: str | None
) -> None:
    blobs = snapshot.parent.parent / "blobs"
    size = sum(file.size for file in weights)
    _require_room(size - stored_bytes(blobs, weights), wanted)
    with DownloadProgress(wanted.what, size, lambda: stored_bytes(blobs, weights)):
        snapshot_download(
            repository, revision=snapshot.name, allow_patterns=[file.path for file in weights], token=token
        )
    if missing := what_is_missing(snapshot / wanted.subfolder, (), weights=True):
        raise ModelLoadError(f"The download of the {wanted.what} {wanted.repository!r} is not whole: {missing}.")
    for file in weights:
        _require_hash(snapshot / file.path, file, wanted)


def _require_room(size: int, wanted: Wanted) -> None:
    """Raises ModelLoadError when the disk of the hub's cache has less than `size` bytes."""
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size + _SPARE_BYTES > free:
        raise ModelLoadError(
            f"The {wanted.what} {wanted.repository!r} needs {size / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are "
            "free; give the container a larger disk, set HF_HOME to a folder on a volume, or let RunPod cache it."
        )


def _require_hash(file: Path, listed: RepoFile, wanted: Wanted) -> None:
    """Raises ModelLoadError, and removes the file, when its content is not what the hub says that it is."""
    if listed.lfs is None:
        return  # a small file of a git repository, which has no hash of its content alone
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != listed.lfs.sha256:
        file.resolve().unlink()
        file.unlink(missing_ok=True)
        raise ModelLoadError(
            f"The download of the {wanted.what} {wanted.repository!r} is damaged: the SHA-256 of {file.name} is not "
            "the hub's. The file was removed; start the worker again to download it."
        )
