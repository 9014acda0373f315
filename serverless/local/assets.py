"""The clips that test inputs name, within the reach of a local run and of nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PLACEHOLDER = "http://test-inputs.invalid/"  # a host that never exists anywhere
ALLOW_PRIVATE = "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"  # the SDK's switch, which reference fetching follows


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a free port of this machine's loopback; yields its address, with a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, name="assets", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def with_address(value: Any, address: str) -> Any:
    """`value` with every string in it that begins with the placeholder pointed at `address`."""
    if isinstance(value, dict):
        return {key: with_address(item, address) for key, item in value.items()}
    if isinstance(value, list):
        return [with_address(item, address) for item in value]
    if isinstance(value, str) and value.startswith(PLACEHOLDER):
        return address + value.removeprefix(PLACEHOLDER)
    return value


def allow(folder: Path) -> None:
    """Read clips and voices from `folder` and fetch from loopback, where the environment leaves it open."""
    os.environ.setdefault("HIGGS_AUDIO_REFERENCE_DIRS", str(folder))
    os.environ.setdefault(ALLOW_PRIVATE, "true")
    if any(folder.glob("*.txt")) or (folder / "config.json").is_file():
        os.environ.setdefault("HIGGS_AUDIO_VOICES_DIR", str(folder))
