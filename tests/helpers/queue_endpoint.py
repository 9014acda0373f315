"""The client's side of a RunPod queue endpoint on loopback: /run, /status, /stream and /cancel.

It keeps every submission by what it asks for, so that a test can say what was sent twice, and gives each job audio
that tells its text. What it answers can be held back, refused or lost.
"""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from higgs_core.audio import wav_header
from tests.helpers.http_stub import QuietHandler, listening
from tests.helpers.patience import PATIENCE

Answer = tuple[int, dict[str, Any]]


def audio_of(text: str) -> bytes:
    """A WAV whose samples are the text's own bytes."""
    samples = text.encode("utf-16-le")
    return wav_header("pcm_16", len(samples)) + samples


@dataclass
class Job:
    """polls: how often its state is IN_PROGRESS before it is COMPLETED. outcome: in place of its result."""

    id: str
    input: dict[str, Any]
    polls: int = 0
    outcome: dict[str, Any] | None = None


class QueueEndpoint:
    """on_run: called with the number of each submission, from 1, before it is answered; an answer that it returns is
    sent instead, and the job is not taken. outcome: what becomes of a job by its text; None for its audio."""

    def __init__(self, *, polls: int = 1) -> None:
        self.polls = polls
        self.jobs: dict[str, Job] = {}
        self.submissions: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.on_run: Callable[[int], Answer | None] = lambda number: None
        self.on_status: Callable[[Job], Answer | None] = lambda job: None
        self.outcome: Callable[[str], dict[str, Any] | None] = lambda text: None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[str]:
        """The address of the API, to which /ENDPOINT/run belongs."""
        endpoint = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                endpoint._handle(self)

            do_POST = do_GET

        with listening(Handler) as address:
            yield address

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length", 0))) or b"{}")
        kind, *rest = request.path.split("/")[2:]
        self.asked[kind] += 1
        status, answer = self._run(body) if kind == "run" else self._about(kind, rest[0])
        data = json.dumps(answer).encode()
        try:
            request.send_response(status)
            request.send_header("Content-Length", str(len(data)))
            if "retry_after" in answer:
                request.send_header("Retry-After", str(answer["retry_after"]))
            request.end_headers()
            request.wfile.write(data)
        except OSError:
            pass  # whoever asked was killed

    def _run(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            number = next(self._numbers)
        refusal = self.on_run(number)
        if refusal is not None:
            return refusal
        with self._lock:
            text = body["input"]["script"]
            self.submissions[text] += 1
            job = Job(f"job-{number}", body["input"], self.polls, self.outcome(text))
            self.jobs[job.id] = job
        return 200, {"id": job.id, "status": "IN_QUEUE"}

    def _about(self, kind: str, job_id: str) -> Answer:
        with self._lock:
            job = self.jobs.get(job_id)
            if job is None:
                return 404, {"error": "job not found"}
            instead = self.on_status(job)
            if instead is not None:
                return instead
            if job.polls > 0:
                job.polls -= 1
                return 200, {"status": "IN_PROGRESS"}
            if job.outcome is not None:
                return 200, job.outcome
            return 200, {"status": "COMPLETED", **result_of(job, kind)}


def result_of(job: Job, kind: str) -> dict[str, Any]:
    """What /status or /stream says of a job that is done."""
    audio = audio_of(job.input["script"])
    output = {
        "audio_base64": base64.b64encode(audio).decode(),
        "audio_format": "wav",
        "duration_seconds": (len(audio) - 44) / 48_000,
        "seed": 5,
        "usage": {"prompt_tokens": 10, "completion_tokens": 20},
        "warnings": [],
    }
    if kind == "stream":
        return {"stream": [{"output": {**output, "index": 0}}, {"output": {"is_final": True}}]}
    return {"output": output}


class Gate:
    """Holds back whoever passes until it is opened, and tells how many have come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()
