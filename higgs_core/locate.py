"""Finds a checkpoint: a local folder, RunPod's model cache, the hub's cache on disk, and only then the hub.

What lies on this machine is found without a word to the hub, so that its outage keeps no worker from booting.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from higgs_core.errors import ModelLoadError

log = logging.getLogger(__name__)

RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")
PINNED_REVISIONS = {
    "bosonai/higgs-audio-v2-generation-3B-base": "10840182ca4ad5d9d9113b60b9bb3c1ef1ba3f84",
}
"""Revisions that are known to hold what their name says; a revision that the caller gives goes before."""

_WANTED = ["*.json", "*.safetensors", "*.model"]


def locate(name: str, revision: str | None = None, *, what: str = "model", cache: Path = RUNPOD_CACHE) -> Path:
    """The folder of a checkpoint: a path, `org/name` or `org/name/subfolder`.

    revision: commit, tag or branch on the hub; ignored for a local folder. A snapshot in RunPod's cache is taken at the
    wanted revision if it is there, else as it is, because that cache holds one revision only.
    Raises ModelLoadError saying what to do.
    """
    local = Path(name).expanduser()
    if name.strip() and local.is_dir():
        return local
    parts = name.split("/")
    if len(parts) < 2 or local.is_absolute() or not all(parts):
        raise ModelLoadError(f"The {what} {name!r} is neither a folder here nor a hub id such as 'org/name'.")
    repository, subfolder = "/".join(parts[:2]), "/".join(parts[2:])
    revision = revision or PINNED_REVISIONS.get(repository)
    snapshot = _in_runpod_cache(cache, repository, revision) or _from_hub(repository, subfolder, revision, what)
    folder = snapshot / subfolder
    if not folder.is_dir():
        raise ModelLoadError(f"The {what} {repository!r} has no folder {subfolder!r}.")
    return folder


def _in_runpod_cache(cache: Path, repository: str, revision: str | None) -> Path | None:
    wanted = f"models--{repository.replace('/', '--')}"
    for folder in (cache / wanted, cache / wanted.lower()):
        snapshots = folder / "snapshots"
        if not snapshots.is_dir():
            continue
        reference = folder / "refs" / "main"
        names = [revision, reference.read_text().strip() if reference.is_file() else None]
        found = [snapshots / name for name in names if name and (snapshots / name).is_dir()]
        found += sorted(path for path in snapshots.iterdir() if path.is_dir())
        if found:
            if revision and found[0].name != revision:
                log.warning("RunPod's cache holds another revision of %s than the one pinned; using it", repository)
            return found[0]
    return None


def _from_hub(repository: str, subfolder: str, revision: str | None, what: str) -> Path:
    prefix = f"{subfolder}/" if subfolder else ""
    arguments: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": [prefix + pattern for pattern in _WANTED],
        "token": os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or None,
    }
    try:
        try:
            return Path(snapshot_download(**arguments, local_files_only=True))
        except LocalEntryNotFoundError:
            log.info("Downloading the %s %s (revision %s)", what, repository, revision or "main")
        return Path(snapshot_download(**arguments))
    except GatedRepoError:
        remedy = "ask for access on the hub and set HF_TOKEN"
    except RevisionNotFoundError:
        remedy = "the repository has no such revision; set another, or none for its main branch"
    except RepositoryNotFoundError:
        remedy = "check the name, and set HF_TOKEN if the repository is private"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        remedy = f"the hub did not answer as expected ({type(error).__name__}); check the network or use a local folder"
    raise ModelLoadError(f"The {what} {repository!r} (revision {revision or 'main'}) cannot be downloaded: {remedy}.")
