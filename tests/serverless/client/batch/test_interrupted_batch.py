"""A batch of 200 jobs that is killed at driven points, resumed, and does nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.batches import batch, finished, manifest
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.queue_endpoint import Answer, Gate, Job, QueueEndpoint, audio_of


def tear(journal: Path) -> None:
    """Leave of a line at the end what a process that is killed while it writes leaves."""
    with journal.open("ab") as file:
        file.write(b'{"event": "sent", "key": "0123')


def test_200_jobs_killed_twice_are_all_done_and_none_twice(tmp_path: Path) -> None:
    """First between a submission and its answer, then while results come in; the journal's last line torn each time."""
    source, texts = manifest(tmp_path, 200)
    output = tmp_path / "out"
    endpoint, at_run, at_status = QueueEndpoint(polls=1), Gate(), Gate()
    killed: list[int] = []

    def hold_a_submission(number: int) -> Answer | None:
        if number == 60:
            at_run.wait()
        return None

    def hold_results(job: Job) -> Answer | None:
        if len(list(output.glob("*.wav"))) >= 110 and not killed[1:]:
            at_status.reached.set()
            return 200, {"status": "IN_PROGRESS"}
        return None

    endpoint.on_run, endpoint.on_status = hold_a_submission, hold_results
    with endpoint.running() as api:
        with batch(api, source, output) as process:
            assert at_run.reached.wait(PATIENCE), finished(process)
            process.kill()
            process.wait()
            killed.append(process.pid)
        first = len(endpoint.jobs)
        assert first < 200
        at_run.open()  # the answer goes to the process that outlives the batch
        with batch(api, source, output) as process:
            assert at_status.reached.wait(PATIENCE)
            process.kill()
            process.wait()
            killed.append(process.pid)
        there = {path.name: path.stat().st_mtime_ns for path in output.glob("*.wav")}
        assert 100 <= len(there) < 200
        with FileLock(output / ".batch/submitter.lock"):  # its process has written its last line
            pass
        tear(output / ".batch/journal.jsonl")
        with batch(api, source, output) as process:
            status, out, err = finished(process)
    assert status == 0, err
    assert dict(endpoint.submissions) == dict.fromkeys(texts.values(), 1)
    assert {path.name: path.read_bytes() for path in output.glob("*.wav")} == {
        name: audio_of(text) for name, text in texts.items()
    }
    assert all((output / name).stat().st_mtime_ns == before for name, before in there.items())
    assert list((output / ".batch/parts").iterdir()) == []
    report = json.loads((output / "report.json").read_text())
    assert (report["jobs"], report["done"], report["failed"], report["sent_again"]) == (200, 200, 0, 0)
    assert report["done_earlier"] >= len(there)
    assert report["usage"] == {"prompt_tokens": 2000, "completion_tokens": 4000}
    assert "200 of 200 jobs done" in out


def test_a_second_run_in_the_folder_is_refused_while_the_first_works(tmp_path: Path) -> None:
    source, _ = manifest(tmp_path, 2)
    endpoint, gate = QueueEndpoint(), Gate()
    endpoint.on_run = lambda number: gate.wait()
    with endpoint.running() as api, batch(api, source, tmp_path / "out") as first:
        assert gate.reached.wait(PATIENCE)
        with batch(api, source, tmp_path / "out") as second:
            status, _, err = finished(second)
        assert (status, err) == (1, f"Another run works in {tmp_path / 'out'}; wait until it has ended.\n")
        gate.open()
        assert finished(first)[0] == 0


def running_until_released(endpoint: QueueEndpoint) -> tuple[threading.Event, threading.Event]:
    """Let jobs run on: an event for the first question about one, and one that lets them end."""
    asked, released = threading.Event(), threading.Event()

    def status(job: Job) -> Answer | None:
        asked.set()
        return None if released.is_set() else (200, {"status": "IN_PROGRESS"})

    endpoint.on_status = status
    return asked, released


def interrupted(process: subprocess.Popen[str], asked: threading.Event) -> str:
    """The line that a batch says at Ctrl-C, once it has asked about a job."""
    assert asked.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    return process.stderr.readline()


def test_ctrl_c_says_what_it_waits_for_and_the_rest_is_left_for_the_next_run(tmp_path: Path) -> None:
    source, texts = manifest(tmp_path, 6)
    endpoint = QueueEndpoint()
    asked, released = running_until_released(endpoint)
    with endpoint.running() as api:
        with batch(api, source, tmp_path / "out", "--jobs", "2") as process:
            wait_until(lambda: len(endpoint.jobs) == 2)
            assert interrupted(process, asked).startswith("No more jobs are begun; waiting for 2 in flight.")
            released.set()
            code, out, _ = finished(process)
        assert code == 130
        assert "2 of 6 jobs done, 0 failed, 4 left" in out
        with batch(api, source, tmp_path / "out") as process:
            assert finished(process)[0] == 0
    assert dict(endpoint.submissions) == dict.fromkeys(texts.values(), 1)


def test_a_second_ctrl_c_ends_at_once_and_the_next_run_goes_on(tmp_path: Path) -> None:
    source, texts = manifest(tmp_path, 3)
    endpoint = QueueEndpoint()
    asked, released = running_until_released(endpoint)
    with endpoint.running() as api:
        with batch(api, source, tmp_path / "out") as process:
            assert "second Ctrl-C" in interrupted(process, asked)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
        released.set()
        with batch(api, source, tmp_path / "out") as process:
            assert finished(process)[0] == 0
    assert dict(endpoint.submissions) == dict.fromkeys(texts.values(), 1)


@pytest.mark.parametrize("mode", ["queue", "stream"])
def test_the_key_is_in_no_file_and_no_output(tmp_path: Path, mode: str) -> None:
    source, _ = manifest(tmp_path, 2)
    with QueueEndpoint().running() as api, batch(api, source, tmp_path / "out", "--mode", mode) as process:
        status, out, err = finished(process)
    assert status == 0, err
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"rp_secret" in data for data in [*written, out.encode(), err.encode()])
