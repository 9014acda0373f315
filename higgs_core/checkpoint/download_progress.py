"""How far a download has come, as lines of the log. Imports no torch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


def stored_bytes(blobs: Path, files: Sequence[RepoFile]) -> int:
    """What lies of these files in a repository's folder of blobs, whole or in part."""
    total = 0
    for file in files:
        etag = file.lfs.sha256 if file.lfs is not None else file.blob_id
        for blob in (blobs / etag, *blobs.glob(f"{etag}*.incomplete")):
            try:
                total += min(blob.stat().st_size, file.size)
                break
            except FileNotFoundError:  # not begun, or renamed in between
                continue
    return total


class DownloadProgress:
    """A `with` block around a download, which logs every EVERY_SECONDS what of `size` bytes is `stored`."""

    def __init__(
        self, what: str, size: int, stored: Callable[[], int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: seconds."""
        self._what = what
        self._size = size
        self._stored = stored
        self._clock = clock
        self._started = clock()
        self._before = stored()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="download-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self.report()

    def report(self) -> None:
        """Write one line."""
        stored, seconds = self._stored(), self._clock() - self._started
        log.info(
            "Downloading the %s: %.1f of %.1f GB, %.0f MB a second",
            self._what,
            stored / 1e9,
            self._size / 1e9,
            (stored - self._before) / 1e6 / max(seconds, 1e-3),
        )

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self.report()
