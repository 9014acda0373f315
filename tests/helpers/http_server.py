"""The project's HTTP server on loopback, in a thread of this process: uvicorn, the app and the service."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
import uvicorn
from fastapi import FastAPI

from serverless.config.settings import Settings
from serverless.http.connections import ConnectionLimits
from serverless.http_server import create_app, uvicorn_config
from serverless.service.service import SpeechService
from tests.helpers.patience import PATIENCE, wait_until


@dataclass
class Running:
    """A server that listens; `fatal` counts how often the app asked for its own end."""

    url: str
    service: SpeechService
    app: FastAPI
    fatal: list[str] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    """uvicorn's protocols of those that are open."""

    def generate(self, job_input: dict[str, Any], **options: Any) -> requests.Response:
        return requests.post(f"{self.url}/generate", json={"input": job_input}, timeout=PATIENCE, **options)

    def idle(self) -> bool:
        stats = self.service.stats()
        return stats["in_flight"] == stats["active"] == stats["waiting"] == 0


@contextmanager
def serving_http(settings: Settings, service: SpeechService | None = None, *, ready: bool = True) -> Iterator[Running]:
    """Serve until the block ends. ready: wait until the model is loaded."""
    own = service or SpeechService(settings)
    fatal: list[str] = []
    app = create_app(own, settings, on_fatal=lambda: fatal.append("fatal"))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(app, "127.0.0.1", 0, ConnectionLimits.of(settings), own.unread))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http-server")
    thread.start()
    try:
        wait_until(lambda: server.started)
        if ready:
            wait_until(lambda: own.ready or own.load_error is not None)
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", own, app, fatal, server.server_state.connections)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        own.close()


def hang_up(server: Running, job: dict[str, Any]) -> None:
    """Ask for a job, and go as soon as the server is at work on it."""
    before = server.service.stats()["in_flight"]
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.request("POST", "/generate", json.dumps({"input": job}), {"Content-Type": "application/json"})
    wait_until(lambda: server.service.stats()["in_flight"] > before)
    connection.close()
