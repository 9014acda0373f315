"""python -m serverless.http_server as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.helpers.http_server import wait_until
from tests.helpers.patience import PATIENCE


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


@contextmanager
def process(**environment: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "serverless.http_server"],
        env={**os.environ, "HIGGS_AUDIO_HOST": "127.0.0.1", "HIGGS_AUDIO_MODEL_ID": "tiny", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def status(port: int) -> int | None:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=PATIENCE).status_code
    except requests.RequestException:
        return None


def test_both_ports_answer_and_sigterm_lets_a_stream_end() -> None:
    port, port_health = free_ports(2)
    with process(PORT=str(port), PORT_HEALTH=str(port_health), HIGGS_AUDIO_DEVICE="cpu") as server:
        wait_until(lambda: status(port) == 200 and status(port_health) == 200)
        job = {"input": {"script": "Many words to speak. " * 40, "stream": True, "seed": 1}}
        with requests.post(f"http://127.0.0.1:{port}/generate", json=job, stream=True, timeout=PATIENCE) as answer:
            lines = answer.iter_lines()
            items = [json.loads(next(lines))]
            server.send_signal(signal.SIGTERM)
            items += [json.loads(line) for line in lines if line]
        assert items[-1]["is_final"]
        assert items[-1]["duration_seconds"] > 1
        _, log = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
    assert "Many words" not in log
    assert "Traceback" not in log


def test_a_wrong_setting_ends_the_process_with_its_one_line() -> None:
    with process(PORT="99999") as server:
        _, said = server.communicate(timeout=PATIENCE)
    assert server.returncode == 2
    assert len(said.strip().splitlines()) == 1
    assert "PORT" in said
