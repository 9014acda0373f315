"""A real process at each door whose engine hangs: its jobs are answered, it says that it is ill, and it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.helpers.fake_platform import FakePlatform
from tests.helpers.hanging_worker import MODULE, Hang
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess, WorkerProcess
from tests.serverless.http.test_process import free_ports, status

JOB = {"script": "Hello there, this takes a while.", "seed": 1}
SENTENCES = {
    "decode step": "The engine does not answer any more; this worker is being replaced.",
    "codec": "The audio codec does not answer any more; this worker is being replaced.",
}


@dataclass
class Server:
    """The HTTP server as a process; `ask` sends jobs in threads of their own."""

    process: ModuleProcess
    hang: Hang
    port: int
    port_health: int
    pool: ThreadPoolExecutor

    def ask(self, **fields: Any) -> Future[requests.Response]:
        job = {"input": {**JOB, **fields}}
        return self.pool.submit(requests.post, f"http://127.0.0.1:{self.port}/generate", json=job, timeout=PATIENCE)


@contextmanager
def http_server(folder: Path, where: str) -> Iterator[Server]:
    hang, (port, port_health) = Hang(folder, where), free_ports(2)
    around = {"HIGGS_AUDIO_MODE": "http", "HIGGS_AUDIO_HOST": "127.0.0.1"}
    ports = {"PORT": str(port), "PORT_HEALTH": str(port_health)}
    log = folder / "log"
    with ModuleProcess(MODULE, log, **around, **ports, **hang.environment) as process, ThreadPoolExecutor() as pool:

        def ready() -> bool:
            process.assert_runs()
            return status(port) == 200 and status(port_health) == 200

        wait_until(ready)
        yield Server(process, hang, port, port_health, pool)


def half_a_request(port: int) -> socket.socket:
    """A client that is still sending: the server lets it finish before it ends."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    head = f"POST /generate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: 999"
    connection.sendall(f"{head}\r\n\r\n{{".encode())
    return connection


def test_a_server_that_hangs_answers_every_job_turns_red_and_ends(tmp_path: Path) -> None:
    where = "decode step"
    with http_server(tmp_path, where) as server:
        with closing(half_a_request(server.port)):
            server.hang.begin()
            answers = [server.ask(), server.ask(stream=True), server.ask()]
            wait_until(lambda: server.hang.hung)
            server.hang.let_time_pass()
            for answer in answers:
                assert answer.result(PATIENCE).status_code == 503
                assert answer.result().json()["error"] == SENTENCES[where]
                assert answer.result().json()["code"] == "engine_stopped"
            ping = requests.get(f"http://127.0.0.1:{server.port_health}/ping", timeout=PATIENCE)
            assert (ping.status_code, ping.json()["error"]) == (500, SENTENCES[where])
        assert server.process.wait_for_exit() == 1
        assert "in reach" in server.process.log  # where it hung
        assert "Hello there" not in server.process.log


def test_sigterm_ends_a_server_whose_hang_nobody_has_found(tmp_path: Path) -> None:
    with http_server(tmp_path, "decode step") as server:
        server.hang.begin()
        answer = server.ask()
        wait_until(lambda: server.hang.hung)
        server.process.sigterm()
        assert server.process.wait_for_exit() == 1
        with suppress(requests.ConnectionError):  # its time to end was over
            assert answer.result(PATIENCE).status_code >= 500


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
def test_a_queue_worker_that_hangs_answers_every_job_and_ends(tmp_path: Path, streaming: bool) -> None:
    where, jobs = ("codec", 1) if streaming else ("decode step", 2)  # with one job nothing else runs beside the codec
    hang = Hang(tmp_path, where)
    options = {
        "HIGGS_AUDIO_MAX_CONCURRENCY": str(jobs),
        "HIGGS_AUDIO_STREAMING": str(int(streaming)),
        **hang.environment,
    }
    with FakePlatform() as platform, WorkerProcess(platform, tmp_path / "log", module=MODULE, **options) as worker:
        worker.ensure_ready()
        hang.begin()
        records = [platform.submit(JOB) for _ in range(jobs)]
        wait_until(lambda: hang.hung)
        platform.wait_until_taken(records)
        if not streaming:
            worker.sigterm()  # in mid-hang: it waits for its jobs, and these for the watchdog
        hang.let_time_pass()
        platform.wait(records)
        for record in records:
            assert SENTENCES[where] in str(record.result)
        assert worker.wait_for_exit() == 1
        assert "in reach" in worker.log


def test_sigterm_ends_a_worker_that_hangs_before_it_takes_jobs(tmp_path: Path) -> None:
    hang = Hang(tmp_path, "decode step")
    hang.begin()
    with FakePlatform() as platform:
        with WorkerProcess(platform, tmp_path / "log", module=MODULE, **hang.environment) as worker:
            wait_until(lambda: hang.hung)
            worker.sigterm()
            assert worker.wait_for_exit() == 0
        assert not platform.polls
