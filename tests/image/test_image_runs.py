"""The built image at work: as its user, on a read-only root, at both doors, and when it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.helpers.audio import audio_of
from tests.helpers.fake_platform import FakePlatform
from tests.helpers.image import Container, Image
from tests.helpers.patience import PATIENCE, wait_until

TINY = {"HIGGS_AUDIO_MODEL_ID": "tiny", "HIGGS_AUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
JOB = {"script": "Hello.", "max_new_tokens": 60, "seed": 1}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(image: Image, log: Path) -> Iterator[tuple[Container, str]]:
    port = free_port()
    around = {"HIGGS_AUDIO_MODE": "http", "PORT": str(port), "HIGGS_AUDIO_HOST": "127.0.0.1"}
    with Container(image, log, **TINY, **around) as container:
        address = f"http://127.0.0.1:{port}"

        def serves() -> bool:
            assert container.runs, container.log
            try:
                return requests.get(f"{address}/ready", timeout=PATIENCE).ok
            except requests.ConnectionError:
                return False

        wait_until(serves)
        yield container, address


def test_the_queue_worker_answers_a_job_and_drains_at_the_stop_signal(image: Image, tmp_path: Path) -> None:
    with FakePlatform() as platform, Container(image, tmp_path / "log", **TINY, **platform.environment()) as worker:
        wait_until(lambda: platform.open_polls > 0 or not worker.runs)
        assert worker.runs, worker.log
        for form in ("wav", "aac"):  # the second by ffmpeg
            output = platform.run({**JOB, "response_format": form, "speed": 1.25}).result["output"]
            assert output["audio_format"] == form
        assert np.abs(audio_of(platform.run(JOB).result["output"])).max() > 0
        worker.sigterm()
        last = platform.submit(JOB)  # the poll that is open brings it still
        platform.wait([last])
        assert worker.wait_for_exit() == 0, worker.log


def test_the_http_server_pings_speaks_and_is_healthy(image: Image, tmp_path: Path) -> None:
    with serving(image, tmp_path / "log") as (container, address):
        assert requests.get(f"{address}/ping", timeout=PATIENCE).status_code == 200
        answer = requests.post(f"{address}/generate", json={"input": JOB}, timeout=PATIENCE)
        assert answer.status_code == 200, container.log
        assert np.abs(audio_of(answer.json())).max() > 0
        port = address.rpartition(":")[2]
        check = image.config["Healthcheck"]["Test"][1:]
        around = {"HIGGS_AUDIO_MODE": "http", "HIGGS_AUDIO_HOST": "127.0.0.1"}
        assert image.run(*check, PORT=port, **around).returncode == 0
        assert image.run(*check, PORT=str(free_port()), **around).returncode == 1
        container.sigterm()
        assert container.wait_for_exit() == 0, container.log


def test_a_queue_worker_is_healthy_while_it_runs(image: Image) -> None:
    assert image.run(*image.config["Healthcheck"]["Test"][1:]).returncode == 0


@pytest.mark.parametrize("user", ["1000:1000", "54321:54321", "0:0"])
def test_it_runs_as_another_user_too(image: Image, user: str) -> None:
    """RunPod lets an endpoint choose the user."""
    program = ("python", "-m", "serverless.local_run", "--output", "/tmp/out", "test_inputs/plain.json")
    ran = image.run(*program, user=user, **TINY)
    assert ran.returncode == 0, ran.stderr


def test_the_stop_signal_ends_it_while_it_still_loads(image: Image, tmp_path: Path) -> None:
    """Process 1 has no default action for a signal; a python in its place would go on until it is killed."""
    waiting = "import sys, threading; print('loading', flush=True); threading.Event().wait()"
    entry = image.config["Entrypoint"]
    with Container(image, tmp_path / "log", *entry, "python", "-c", waiting) as container:
        container.wait_for_line("loading")
        container.sigterm()
        assert container.wait_for_exit() != 0
        assert not container.runs


def test_orphans_are_collected(image: Image, tmp_path: Path) -> None:
    """A program whose parent is gone becomes process 1's child, and a zombie where process 1 does not wait for it."""
    program = (
        "import os, pathlib, subprocess, time\n"
        "subprocess.run(['sh', '-c', 'true & exec true'])\n"
        "def zombies(): return [p for p in pathlib.Path('/proc').glob('[0-9]*/stat') if ') Z 1 ' in p.read_text()]\n"
        "while zombies(): time.sleep(0.01)\n"
        "print('none left', flush=True)\n"
    )
    ran = image.run(*image.config["Entrypoint"], "python", "-c", program)
    assert ran.stdout == "none left\n", ran.stderr


def test_a_wrong_setting_ends_it_with_the_sentence(image: Image) -> None:
    ran = image.run(*image.config["Entrypoint"], *image.config["Cmd"], HIGGS_AUDIO_MAX_CONTEXT="12")
    assert ran.returncode == 2
    assert "HIGGS_AUDIO_MAX_CONTEXT" in ran.stderr
