"""The HTTP server, and clients that read, dawdle and hang up."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess
from tests.serverless.http.test_process import free_ports
from tests.soak.answers import GONE, Answer, checked_audio, of_items
from tests.soak.door import ENVIRONMENT, WatchedDoor
from tests.soak.planned import FINISHED, Leaving, Planned

_SLOW_BYTES = 4096
_SLOW_PAUSE = 0.005
_RECEIVE_BUFFER = 4096
"""Bytes that the kernel keeps for a slow client; what is over them waits in the server."""


class HttpDoor(WatchedDoor):
    """Every request has a connection of its own."""

    name = "http"

    def __init__(self, log: Path, **environment: str) -> None:
        (self._port,) = free_ports(1)
        around = {**ENVIRONMENT, "HIGGS_AUDIO_HOST": "127.0.0.1", "PORT": str(self._port), **environment}
        super().__init__(ModuleProcess("serverless.http_server", log, **around), log)
        self._answered: dict[str, str] = {}  # code by id
        self._without_id = 0

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            self.process.assert_runs()
            return self._get("/ping")[0] == 200

        wait_until(ready)

    def wait_until_idle(self) -> None:
        wait_until(lambda: all(self._gauge(name) == 0 for name in ("higgs_slots_active", "higgs_queue_depth")))
        wait_until(lambda: self._gauge("higgs_requests_in_progress") == 0)

    def end(self) -> int:
        self.process.sigterm()
        return self.process.wait_for_exit()

    def reconcile(self) -> None:
        self.lines.update()
        for job_id, code in self._answered.items():
            lines = self.lines.lines.pop(job_id, 0)
            if lines > 1:
                self.ledger.double(f"{lines} lines in the log of one request")
            if code == FINISHED and lines == 0:
                self.ledger.double("an answer without a line in the log")
        if len(self.lines.lines) > self._without_id:
            self.ledger.double(f"{len(self.lines.lines) - self._without_id} jobs that nobody sent")
        self._answered.clear()
        self._without_id = 0
        self.lines.lines.clear()

    def _answer(self, planned: Planned) -> Answer | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        connection.sock = self._socket(slow=planned.slow)
        job_id = None
        try:
            connection.request("POST", planned.route, *_sent(planned))
            if planned.leaving is not None and not planned.leaving.answer_bytes:
                connection.sock.settimeout(planned.leaving.seconds)
            answer = connection.getresponse()
            job_id = answer.headers["X-Request-Id"]
            code = self._read(planned, answer)
        except TimeoutError:
            if planned.leaving is None:
                return None
            code = GONE
        finally:
            connection.close()
            if job_id is None:
                self._without_id += 1
        if job_id is not None:
            self._answered[job_id] = code.code
        return code

    def _socket(self, *, slow: bool) -> socket.socket:
        sock = socket.socket()
        if slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self._port))
        return sock

    def _read(self, planned: Planned, answer: http.client.HTTPResponse) -> Answer:
        body = _body(answer, planned.leaving or Leaving(), slow=planned.slow)
        if body is None:
            return GONE
        if answer.status != 200:
            problem = json.loads(body)
            return Answer((problem["error"] if planned.route.startswith("/v1") else problem)["code"])
        if planned.route != "/v1/audio/speech":
            return of_items([json.loads(line) for line in body.splitlines()])
        audio_format = planned.job_input["response_format"]
        if planned.job_input["stream_format"] == "sse":
            return _of_events(body, audio_format)
        return Answer(FINISHED, audio=checked_audio(body, audio_format, None))

    def _get(self, path: str) -> tuple[int, str]:
        """(status, body); (0, "") while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def _gauge(self, name: str) -> float:
        self.process.assert_runs()
        found = re.search(rf"^{name} (\S+)$", self._get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else -1.0


def _sent(planned: Planned) -> tuple[bytes, dict[str, str]]:
    if planned.raw is not None:
        return planned.raw, planned.headers
    body = planned.job_input if planned.route.startswith("/v1") else {"input": planned.job_input}
    return json.dumps(body).encode(), {"Content-Type": "application/json"}


def _body(answer: http.client.HTTPResponse, leaving: Leaving, *, slow: bool) -> bytes | None:
    """The whole body; None when the client left before its end."""
    if not slow and not leaving.answer_bytes:
        return answer.read()
    body = bytearray()
    while piece := answer.read1(_SLOW_BYTES):
        body += piece
        if leaving.answer_bytes and len(body) >= leaving.answer_bytes:
            return None
        if slow:
            threading.Event().wait(_SLOW_PAUSE)
    return bytes(body)


def _of_events(body: bytes, audio_format: str) -> Answer:
    events: list[dict[str, Any]] = [json.loads(line.removeprefix(b"data: ")) for line in body.splitlines() if line]
    *deltas, last = events
    if last["type"] == "error":
        return Answer(last["error"]["code"])
    assert last["type"] == "speech.audio.done"
    data = b"".join(base64.b64decode(delta["audio"], validate=True) for delta in deltas)
    samples = round(last["duration_seconds"] * 24_000)
    return Answer(FINISHED, samples, last["usage"]["output_tokens"], checked_audio(data, audio_format, samples))
