"""The clips that test inputs name, within the reach of a local run and of nothing else."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PLACEHOLDER = "http://test-inputs.invalid/"  # a host that never exists anywhere
ALLOW_PRIVATE = "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS"  # the SDK's switch, which reference fetching follows


class _AssetHandler(BaseHTTPRequestHandler):
    """Answers GET for the paths of `files` and nothing else."""

    def __init__(self, files: dict[str, Path], *arguments: Any) -> None:
        self._files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        file = self._files.get(self.path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = file.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path, names: Collection[str]) -> Iterator[str]:
    """The files of these names on a free port of this machine's loopback; yields their address, which ends in a slash.

    Only regular files that lie in the folder itself are served, under a path that nobody else on the machine can guess.
    """
    secret = secrets.token_urlsafe(16)
    files = {f"/{secret}/{name}": folder / name for name in names if _is_file_of(folder, name)}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_AssetHandler, files))
    thread = threading.Thread(target=server.serve_forever, name="assets", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{secret}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_file_of(folder: Path, name: str) -> bool:
    file = folder / name
    return file.name == name and "\0" not in name and file.is_file() and file.resolve().parent == folder.resolve()


def asset_names(value: Any) -> set[str]:
    """What the strings in `value` name behind the placeholder."""
    return {text.removeprefix(PLACEHOLDER) for text in _texts(value) if text.startswith(PLACEHOLDER)}


def with_address(value: Any, address: str) -> Any:
    """`value` with every string in it that begins with the placeholder pointed at `address`."""
    if isinstance(value, dict):
        return {key: with_address(item, address) for key, item in value.items()}
    if isinstance(value, list):
        return [with_address(item, address) for item in value]
    if isinstance(value, str) and value.startswith(PLACEHOLDER):
        return address + value.removeprefix(PLACEHOLDER)
    return value


def names_only_assets(value: Any) -> bool:
    """Whether `value` names assets by the placeholder and no other address, so that loopback may be opened for it."""
    addresses = [text for text in _texts(value) if "://" in text]
    return bool(addresses) and all(text.startswith(PLACEHOLDER) for text in addresses)


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]  # not by recursion: a file may be nested as deep as Python's stack
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def allow(folder: Path) -> None:
    """Read clips and voices from `folder`, where the environment leaves it open. Nothing is written there."""
    os.environ.setdefault("HIGGS_AUDIO_REFERENCE_DIRS", str(folder))
    if any(folder.glob("*.txt")) or (folder / "config.json").is_file():
        os.environ.setdefault("HIGGS_AUDIO_VOICES_DIR", str(folder))
        os.environ.setdefault("HIGGS_AUDIO_VOICES_READ_ONLY", "1")


@contextmanager
def loopback_open(wanted: bool) -> Iterator[None]:
    """Let the job of this block fetch from loopback if that is wanted, unless the environment says otherwise."""
    if not wanted or ALLOW_PRIVATE in os.environ:
        yield
        return
    os.environ[ALLOW_PRIVATE] = "true"
    try:
        yield
    finally:
        del os.environ[ALLOW_PRIVATE]
