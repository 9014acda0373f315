"""python -m serverless.http_server as a process of its own."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from serverless.http_server import address_of
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess

MODULE = "serverless.http_server"


def free_ports(count: int) -> list[int]:
    """Ports of loopback, from below the range out of which the kernel gives one to whoever asks for any."""
    free: set[int] = set()
    while len(free) < count:
        port = random.randrange(10_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        free.add(port)
    return list(free)


def status(port: int) -> int | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=PATIENCE).status_code
    except requests.RequestException:
        return None


@pytest.mark.parametrize(
    ("argument", "code", "told"), [("--help", 0, "HIGGS_AUDIO_MODEL_ID"), ("--port=9000", 2, "--port")]
)
def test_an_argument_is_answered_and_starts_no_server(argument: str, code: int, told: str) -> None:
    command = [sys.executable, "-m", MODULE, argument]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == code
    assert told in ended.stdout + ended.stderr
    assert "Listening" not in ended.stdout + ended.stderr


def test_both_ports_answer_and_sigterm_lets_a_stream_end(tmp_path: Path) -> None:
    port, port_health = free_ports(2)
    ports = {"PORT": str(port), "PORT_HEALTH": str(port_health)}
    with ModuleProcess(MODULE, tmp_path / "log", HIGGS_AUDIO_HOST="127.0.0.1", **ports) as server:

        def ready() -> bool:
            server.assert_runs()
            return status(port) == 200 and status(port_health) == 200

        wait_until(ready)
        job = {"input": {"script": "Many words to speak. " * 10, "stream": True, "seed": 1}}
        with requests.post(f"http://127.0.0.1:{port}/generate", json=job, stream=True, timeout=PATIENCE) as answer:
            lines = answer.iter_lines()
            items = [json.loads(next(lines))]
            server.sigterm()
            items += [json.loads(line) for line in lines if line]
        assert items[-1]["is_final"]
        assert items[-1]["duration_seconds"] > 1
        assert server.wait_for_exit() == 0
    assert "Many words" not in server.log
    assert "Traceback" not in server.log


def test_a_wrong_setting_ends_the_process_with_its_one_line(tmp_path: Path) -> None:
    with ModuleProcess(MODULE, tmp_path / "log", PORT="99999") as server:
        assert server.wait_for_exit() == 2
    assert len(server.log.strip().splitlines()) == 1
    assert "PORT" in server.log


def test_it_prints_its_address_and_at_ctrl_c_what_it_waits_for_and_a_second_one_ends_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    job = {"input": {"script": "Many words. " * 400, "stream": True, "seed": 1}}
    with ModuleProcess(MODULE, tmp_path / "log", HIGGS_AUDIO_HOST="127.0.0.1", PORT=str(port)) as server:
        wait_until(lambda: f"Ready at http://localhost:{port}\n" in server.log)
        listening = f"Listening at http://localhost:{port}, where the playground is. The model is loading.\n"
        assert server.log.index(listening) < server.log.index("Ready at")
        with requests.post(f"http://127.0.0.1:{port}/generate", json=job, stream=True, timeout=PATIENCE) as answer:
            lines = answer.iter_lines()  # a generator that is dropped closes the connection
            assert next(lines)
            server.process.send_signal(signal.SIGINT)
            stopping = "Stopping: waiting for 1 job under way. A second Ctrl-C ends at once.\n"

            def told() -> bool:
                server.assert_runs()
                return stopping in server.log

            wait_until(told)
            server.process.send_signal(signal.SIGINT)
            assert server.wait_for_exit() == 130


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://localhost:80"),
        ("::", "http://localhost:80"),
        ("127.0.0.1", "http://localhost:80"),
        ("192.168.0.7", "http://192.168.0.7:80"),
        ("fd00::1", "http://[fd00::1]:80"),
        ("speech.local", "http://speech.local:80"),
    ],
)
def test_the_address_that_is_printed_opens_in_a_browser(host: str, address: str) -> None:
    assert address_of(host, 80) == address
