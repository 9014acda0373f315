"""A hub on loopback: what huggingface_hub asks of the real one, with its redirects, refusals and broken downloads."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.helpers.http_stub import QuietHandler, listening

_API = re.compile(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """files: of every revision, by commit.  branches: names of commits.  refuses: status and error code for all."""

    files: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=dict)
    refuses: tuple[int, str] | None = None


class LoopbackHub:
    """Use as a context manager.

    repositories: by name.  moved: old names, by redirect to the new one.
    breaks: how often the download of a file is cut off in its middle before it is served whole, by the file's name.
    damages: how often a file is served with a wrong byte, by its name.
    endpoint: its address, while it is entered.
    asked: requests, "METHOD path".  served: how often the content of a file was asked for, by "repository/file".
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}
        self.breaks: Counter[str] = Counter()
        self.damages: Counter[str] = Counter()
        self.asked: list[str] = []
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.endpoint = ""
        self._listening = listening(_handler_of(self))

    def add(self, name: str, folder: Path, commit: str, *, branch: str = "main") -> Repository:
        """Serve the files below a folder."""
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        repository = self.repositories.setdefault(name, Repository({}))
        repository.files[commit] = files
        repository.branches.setdefault(branch, commit)
        return repository

    def takes_a_break(self, file: str) -> bool:
        return self._counts_down(self.breaks, file)

    def does_damage(self, file: str) -> bool:
        return self._counts_down(self.damages, file)

    def _counts_down(self, times: Counter[str], file: str) -> bool:
        with self._lock:
            times[file] -= 1
            return times[file] >= 0

    def note(self, request: str) -> None:
        with self._lock:
            self.asked.append(request)

    def note_content(self, file: str) -> None:
        with self._lock:
            self.served[file] += 1

    def __enter__(self) -> LoopbackHub:
        self.endpoint = self._listening.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.__exit__(None, None, None)


def _handler_of(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def _answer(self, *, with_content: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.note(f"{self.command} {path}")
            api, file = _API.fullmatch(path), _FILE.fullmatch(path)
            name = (api or file or ["", ""])[1]
            if name in hub.moved:
                self._send(307, {"Location": self.path.replace(name, hub.moved[name], 1)})
                return
            repository = hub.repositories.get(name)
            if repository is None:
                self._refuse(404, "RepoNotFound")
            elif repository.refuses is not None:
                self._refuse(*repository.refuses)
            elif api is not None:
                self._describe(name, repository, *api.group(2, 3))
            elif file is not None:
                self._serve(name, repository, *file.group(2, 3), with_content=with_content)

        def _describe(self, name: str, repository: Repository, what: str, revision: str) -> None:
            commit = repository.branches.get(revision, revision)
            files = repository.files.get(commit)
            if files is None:
                self._refuse(404, "RevisionNotFound")
                return
            described: Any = [_listed(path, content) for path, content in files.items()]
            if what == "revision":
                described = {"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in files]}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(described).encode())

        def _serve(self, name: str, repository: Repository, revision: str, path: str, *, with_content: bool) -> None:
            commit = repository.branches.get(revision, revision)
            content = repository.files.get(commit, {}).get(path)
            if content is None:
                self._refuse(404, "EntryNotFound")
                return
            headers = {"ETag": f'"{_etag(path, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            start = 0
            if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start = int(asked[1])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if with_content and hub.does_damage(Path(path).name):
                content = content[:-1] + bytes([content[-1] ^ 1])
            body = content[start:]
            if not with_content:
                self._send(200, headers | {"Content-Length": str(len(body))})
                return
            hub.note_content(f"{name}/{path}")
            broken = hub.takes_a_break(Path(path).name)
            self._send(206 if start else 200, headers, body, sent=len(body) // 2 if broken else len(body))

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, {"X-Error-Code": code, "X-Error-Message": code})

        def _send(self, status: int, headers: dict[str, str], body: bytes = b"", sent: int | None = None) -> None:
            """sent: fewer bytes than announced, after which the connection ends."""
            self.send_response(status)
            for header, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body[:sent])
            if sent is not None and sent < len(body):
                self.close_connection = True

    return Handler


def _listed(path: str, content: bytes) -> dict[str, Any]:
    """A file as the hub's tree has it: large ones, here the weights, with a hash of their content."""
    listed: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
    if _is_large(path):
        return listed | {"lfs": {"oid": _etag(path, content), "size": len(content), "pointerSize": 134}}
    return listed | {"oid": _etag(path, content)}


def _etag(path: str, content: bytes) -> str:
    return (hashlib.sha256 if _is_large(path) else hashlib.sha1)(content).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")
