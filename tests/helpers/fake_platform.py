"""RunPod's queue on loopback, as its SDK speaks to it: job-take, job-done, job-stream, job-stop and ping.

It keeps the platform's limits (20 MB a result, 1 MB a stream item, both answered by 400) and writes down everything
that a worker posts, in order, so that a test can say what happened to each job. It can also fail, each of its five
paths on its own: see `Fault`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.helpers.patience import PATIENCE, wait_until

RESULT_LIMIT = 20_000_000
STREAM_LIMIT = 1_000_000
WORKER_ID = "worker-1"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Fault:
    """How the platform answers in place of what it should say.

    silent: it keeps the connection and never answers.  reset: it drops the connection.
    handled: it does what was asked, and only its answer goes wrong.
    """

    status: int = 500
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False
    reset: bool = False
    handled: bool = False


@dataclass
class Post:
    """One POST of a worker: kind is "result", "progress" or "stream"; status is what the platform answered."""

    kind: str
    status: int
    size: int
    body: dict[str, Any]
    is_stream: bool


@dataclass
class Record:
    """What happened to one job."""

    job: dict[str, Any]
    taken: int = 0
    cancelled: bool = False
    posts: list[Post] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def of(self, kind: str) -> list[Post]:
        return [post for post in self.posts if post.kind == kind]

    @property
    def results(self) -> list[Post]:
        """The results that the platform kept."""
        return [post for post in self.of("result") if post.status == 200]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The different bodies among the results that the platform kept; a repeated one is no further answer."""
        return list({json.dumps(post.body, sort_keys=True): post.body for post in self.results}.values())

    @property
    def result(self) -> dict[str, Any]:
        """The body of the one result: {"output": ...} or {"error": ..., "output": ...}."""
        assert len(self.results) == 1, f"{self.job['id']} has {len(self.results)} results: {self.posts}"
        return self.results[0].body


class FakePlatform:
    """Use as a context manager. Its methods may be called from the test's thread.

    A poll for jobs stays open until there is one, as the real platform's does for longer than a test lasts.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.pings: list[dict[str, str]] = []
        self.batch_sizes: list[int] = []
        self.polls = 0
        self.open_polls = 0
        self.arrivals: defaultdict[str, list[float]] = defaultdict(list)
        """When each request came, by path ("job-take", "job-done", ...), in seconds of the monotonic clock."""
        self._faults: dict[str, Iterator[Fault]] = {}
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-platform", daemon=True)
        self._jobs: asyncio.Queue[str] = asyncio.Queue()
        self._stops: asyncio.Queue[str] = asyncio.Queue()
        self._stops_sent: set[str] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    def __enter__(self) -> FakePlatform:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """The variables that the platform sets in a worker's container."""
        base = f"http://127.0.0.1:{self.port}/v2/endpoint"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_AI_API_KEY": "fake-key",
            "RUNPOD_POD_ID": WORKER_ID,
            "RUNPOD_ENDPOINT_ID": "endpoint",
        }

    def submit(self, job_input: Any, *, name: str = "job", **beside: Any) -> Record:
        """Queue a job; `beside` holds further keys of the job, such as s3Config."""
        job = {"id": f"{name}-{next(self._numbers)}", "input": job_input, **beside}
        record = self.records[job["id"]] = Record(job)
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, job["id"])
        return record

    def cancel(self, record: Record) -> None:
        """Tell the worker to stop a job that it has taken, again after each ping that still names the job.

        The SDK ignores a signal for a job that it has taken and not yet begun.
        """
        record.cancelled = True
        self._loop.call_soon_threadsafe(self._stops.put_nowait, record.job["id"])

    def expect(self, job_id: str) -> Record:
        """The record of a job that a Fault's body hands out."""
        return self.records.setdefault(job_id, Record({"id": job_id}))

    def deliver_again(self, record: Record) -> None:
        """Queue a job once more under its id, as when the platform believes its worker lost."""
        self._loop.call_soon_threadsafe(self._jobs.put_nowait, record.job["id"])

    def fails(self, path: str, *faults: Fault) -> None:
        """Answer the next requests for a path with these faults in turn, and then as it should be.

        path: "job-take", "job-done", "job-stream", "job-stop" or "ping".
        """
        self._faults[path] = iter(faults)

    def keeps_failing(self, path: str, fault: Fault) -> None:
        """Answer every request for a path with this fault until `heals`."""
        self._faults[path] = itertools.repeat(fault)

    def heals(self, path: str) -> None:
        """Answer a path as it should be again."""
        self._faults.pop(path, None)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections while the block lasts, and drop those that are open."""
        self._do(self._stop())
        try:
            yield
        finally:
            self._do(self._start())

    def run(self, job_input: Any, **beside: Any) -> Record:
        """Submit, and wait for the result."""
        record = self.submit(job_input, **beside)
        self.wait([record])
        return record

    def wait(self, records: list[Record]) -> None:
        """Wait until every job has a result that the platform kept."""
        for record in records:
            ended = record.ended.wait(PATIENCE)
            assert ended, f"{record.job['id']} had no result: taken {record.taken}, {record.posts}"

    def wait_until_taken(self, records: list[Record]) -> None:
        """Wait until a worker has taken every job."""
        wait_until(lambda: all(record.taken for record in records))

    def _do(self, step: Any) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(PATIENCE)

    async def _start(self) -> None:
        app = web.Application(client_max_size=64_000_000, middlewares=[self._faulty])
        prefix = "/v2/endpoint"
        app.router.add_get(prefix + "/job-take/{worker}", self._take)
        app.router.add_get(prefix + "/job-take-batch/{worker}", self._take)
        app.router.add_get(prefix + "/job-stop/{worker}", self._stop_signals)
        app.router.add_post(prefix + "/job-done/{worker}/{job}", self._done)
        app.router.add_post(prefix + "/job-stream/{worker}/{job}", self._stream)
        app.router.add_get(prefix + "/ping/{worker}", self._ping)
        # A worker that is gone takes no job.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.split("/")[3].removesuffix("-batch")
        self.arrivals[path].append(time.monotonic())
        fault = next(self._faults.get(path, iter(())), None)
        if fault is None:
            return await handler(request)
        await (handler(request) if fault.handled else request.read())
        if fault.silent:
            await asyncio.Event().wait()
        if fault.reset and request.transport is not None:
            request.transport.abort()
        return web.Response(
            status=fault.status, body=fault.body, content_type=fault.content_type, headers=fault.headers
        )

    async def _take(self, request: web.Request) -> web.Response:
        """A single take answers a dict, a batch a list."""
        self.polls += 1
        self.open_polls += 1
        try:
            return await self._taken(request)
        finally:
            self.open_polls -= 1

    async def _taken(self, request: web.Request) -> web.Response:
        batch = "batch_size" in request.query
        size = int(request.query.get("batch_size", "1"))
        self.batch_sizes.append(size)
        taken = [await self._jobs.get()]
        while len(taken) < size and not self._jobs.empty():
            taken.append(self._jobs.get_nowait())
        for job_id in taken:
            self.records[job_id].taken += 1
        jobs = [self.records[job_id].job for job_id in taken]
        return web.json_response(jobs if batch else jobs[0])

    async def _stop_signals(self, request: web.Request) -> web.Response:
        try:
            job_id = await asyncio.wait_for(self._stops.get(), 1.0)
        except TimeoutError:
            return web.Response(status=204)
        self._stops_sent.add(job_id)
        return web.json_response({"jobsToStop": [job_id]})

    async def _done(self, request: web.Request) -> web.Response:
        return await self._posted(request, "result", RESULT_LIMIT)

    async def _stream(self, request: web.Request) -> web.Response:
        return await self._posted(request, "stream", STREAM_LIMIT)

    async def _posted(self, request: web.Request, kind: str, limit: int) -> web.Response:
        raw = await request.read()
        record = self.records[request.match_info["job"]]
        status = 200 if len(raw) <= limit else 400
        body = json.loads(raw, parse_constant=_not_json) if status == 200 else {}
        if body.get("status") == "IN_PROGRESS":
            kind = "progress"
        is_stream = request.query.get("isStream") == "true"
        record.posts.append(Post(kind, status, len(raw), body, is_stream))
        if kind == "result" and status == 200:
            record.ended.set()
        return web.json_response({}, status=status)

    async def _ping(self, request: web.Request) -> web.Response:
        self.pings.append(dict(request.query))
        still_there = self._stops_sent & set(request.query.get("job_id", "").split(","))
        self._stops_sent.clear()
        for job_id in still_there:
            self._stops.put_nowait(job_id)
        return web.json_response({})


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
