"""A batch at both doors, in this process: what is tried again, what is not, the report and the exit status."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import soundfile

from serverless.client import __main__ as client
from serverless.client import link, transports
from serverless.client.batch import run as batch_run
from tests.helpers.http_server import Running
from tests.helpers.queue_endpoint import QueueEndpoint, audio_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "POLL_SECONDS", (0.01,))
    monkeypatch.setattr(link, "WAIT_SECONDS", (0.01,) * 5)
    monkeypatch.setattr(batch_run, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(batch_run, "BUSY_SECONDS", 0.01)
    monkeypatch.setenv("RUNPOD_API_KEY", "rp_secret")
    monkeypatch.delenv("HIGGS_AUDIO_API_KEY", raising=False)


def written(folder: Path, *lines: Any, name: str = "m.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def at_queue(endpoint: QueueEndpoint, source: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the report."""
    output = source.parent / "out"
    with endpoint.running() as api:
        status = client.main(["batch", str(source), "-o", str(output), "--endpoint", "e1", "--api", api, *options])
    return status, json.loads((output / "report.json").read_text())


def test_the_http_server_speaks_a_batch_and_a_changed_line_alone_is_done_anew(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"max_new_tokens": 30, "seed": 3}
    lines: list[Any] = [{"input": {"script": f"Number {n}.", **short}, "id": f"n{n}"} for n in range(3)]
    lines.append({"input": {"script": "Loud.", "temperature": 5, "voice": "nobody", **short}, "file": "bad.flac"})
    source, output = written(tmp_path, *lines), tmp_path / "out"
    assert client.main(["batch", str(source), "-o", str(output), "--url", server.url]) == 1
    told = capsys.readouterr()
    assert "3 of 4 jobs done, 1 failed" in told.out
    assert f"FAILED {source}:4 (bad.flac): " in told.out
    assert told.out.endswith("The same command tries again what failed.\n")
    assert "nobody" in told.out
    assert all(soundfile.info(output / f"n{n}.wav").samplerate == 24_000 for n in range(3))
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.wav")}
    lines[1]["input"]["script"] = "Another text."
    lines[3]["input"].pop("voice")
    written(tmp_path, *lines)
    assert client.main(["batch", str(source), "-o", str(output), "--url", server.url]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("*.wav")}
    assert {name for name in before if before[name] != after[name]} == {"n1.wav"}
    report = json.loads((output / "report.json").read_text())
    assert (report["done"], report["done_earlier"]) == (4, 2)
    assert report["audio_seconds"] > 0
    assert report["usage"]["completion_tokens"] > 0


def test_what_may_pass_is_tried_again_and_what_the_worker_refuses_is_not(tmp_path: Path) -> None:
    endpoint = QueueEndpoint()
    left = {"Lost.": 2, "Stopped.": 1, "Wrong.": 9}
    outcomes = {
        "Lost.": {"status": "FAILED"},
        "Stopped.": {"status": "FAILED", "error": "The engine died.", "output": {"code": "engine_stopped"}},
        "Wrong.": {"status": "FAILED", "error": "No such voice.", "output": {"code": "invalid_request"}},
    }

    def outcome(text: str) -> dict[str, Any] | None:
        if left.get(text, 0) == 0:
            return None
        left[text] -= 1
        return outcomes[text]

    endpoint.outcome = outcome
    source = written(tmp_path, "Good.", "Lost.", "Stopped.", "Wrong.")
    status, report = at_queue(endpoint, source)
    assert status == 1
    assert dict(endpoint.submissions) == {"Good.": 1, "Lost.": 2, "Stopped.": 2, "Wrong.": 1}
    failed = {result["where"]: result["error"] for result in report["results"] if result["status"] == "failed"}
    assert failed == {f"{source}:2": "The job ended as FAILED.", f"{source}:4": "No such voice."}
    status, report = at_queue(endpoint, source)  # the next run tries again what failed
    assert (report["done"], report["done_earlier"]) == (3, 2)
    assert endpoint.submissions["Lost."] == 3


@pytest.mark.parametrize("refusal", [(429, {"retry_after": 0}), (503, {"error": "full"}), (500, {})])
def test_a_refused_submission_is_sent_again(tmp_path: Path, refusal: tuple[int, dict[str, Any]]) -> None:
    endpoint = QueueEndpoint()
    endpoint.on_run = lambda number: refusal if number in (2, 3, 5) else None
    status, report = at_queue(endpoint, written(tmp_path, *(f"Text {n}." for n in range(8))))
    assert (status, report["done"], report["sent_again"]) == (0, 8, 0)
    assert set(endpoint.submissions.values()) == {1}


@pytest.mark.parametrize("mode", ["queue", "stream"])
def test_a_platform_that_cannot_be_asked_for_a_while_gets_no_job_twice(tmp_path: Path, mode: str) -> None:
    endpoint, failures = QueueEndpoint(), iter([(500, {})] * 3)
    endpoint.on_status = lambda job: next(failures, None)
    status, report = at_queue(endpoint, written(tmp_path, "One.", "Two."), "--mode", mode)
    assert (status, report["done"]) == (0, 2)
    assert dict(endpoint.submissions) == {"One.": 1, "Two.": 1}
    files = {result["file"] for result in report["results"]}
    assert {(tmp_path / "out" / name).read_bytes() for name in files} == {audio_of("One."), audio_of("Two.")}


def test_a_job_that_the_platform_has_forgotten_is_submitted_again(tmp_path: Path) -> None:
    endpoint = QueueEndpoint()
    forgotten = []

    def status(job: Any) -> tuple[int, dict[str, Any]] | None:
        if forgotten:
            return None
        forgotten.append(endpoint.jobs.pop(job.id))
        return 404, {"error": "job not found"}

    endpoint.on_status = status
    assert at_queue(endpoint, written(tmp_path, "One."))[0] == 0
    assert endpoint.submissions["One."] == 2


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((401, {}), "status 401. The key comes from RUNPOD_API_KEY for RunPod"),
        ((403, {"error": "No access."}), "No access. The key comes from RUNPOD_API_KEY for RunPod"),
        ((404, {"error": "endpoint not found"}), "Is the address, or the id of the endpoint, right?"),
    ],
)
def test_what_no_job_would_get_past_ends_the_run_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: tuple[int, dict[str, Any]], words: str
) -> None:
    endpoint = QueueEndpoint()
    endpoint.on_run = lambda number: refusal
    source = written(tmp_path, *(f"Text {n}." for n in range(30)))
    status, report = at_queue(endpoint, source)
    told = capsys.readouterr()
    assert (status, report["failed"], report["left"]) == (1, 0, 30)
    assert told.err.count(words) == 1
    assert "The same command goes on where this run ended." in told.out
    assert endpoint.asked["run"] <= 3


def test_a_key_that_is_refused_while_a_job_runs_loses_no_job(tmp_path: Path) -> None:
    endpoint = QueueEndpoint()
    endpoint.on_status = lambda job: (401, {})
    source = written(tmp_path, "One.", "Two.")
    with endpoint.running() as api:
        command = ["batch", str(source), "-o", str(tmp_path / "out"), "--endpoint", "e1", "--api", api]
        assert client.main(command) == 1
        endpoint.on_status = lambda job: None
        assert client.main(command) == 0
    assert set(endpoint.submissions.values()) == {1}


def test_an_endpoint_that_nobody_reaches_ends_the_run_and_nothing_counts_as_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = written(tmp_path, *(f"Text {n}." for n in range(30))), tmp_path / "out"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for where in (["--endpoint", "e1", "--api", nobody], ["--url", nobody]):
        assert client.main(["batch", str(source), "-o", str(output), *where, "--retries", "1"]) == 1
        told = capsys.readouterr()
        assert f"{nobody} cannot be reached: connection refused; is the address right" in told.err
        assert "0 of 30 jobs done, 0 failed, 30 left" in told.out
    status, report = at_queue(QueueEndpoint(), source)
    assert (status, report["sent_again"]) == (0, 0)


def test_a_submission_without_an_answer_is_counted_when_it_is_sent_again(tmp_path: Path) -> None:
    endpoint = QueueEndpoint()
    endpoint.on_run = lambda number: (504, {}) if number in (1, 2) else None
    status, report = at_queue(endpoint, written(tmp_path, "One."))
    assert (status, report["done"], report["sent_again"]) == (0, 1, 2)


def test_an_endpoint_without_room_is_told_and_after_a_long_time_the_rest_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = QueueEndpoint()
    endpoint.on_run = lambda number: (429, {"error": "Too many.", "retry_after": 0}) if number < 5 else None
    source = written(tmp_path, *(f"Text {n}." for n in range(6)))
    monkeypatch.setattr(batch_run, "BUSY_NOTICE_SECONDS", -1.0)
    assert at_queue(endpoint, source)[0] == 0
    assert capsys.readouterr().err.count("takes no job now, and is asked again and again: Too many.") == 1
    endpoint.on_run = lambda number: (429, {"error": "Too many."})
    monkeypatch.setattr(batch_run, "BUSY_PATIENCE_SECONDS", -1.0)
    status, report = at_queue(endpoint, written(tmp_path, *(f"New {n}." for n in range(30))))
    assert (status, report["failed"], report["left"]) == (1, 0, 30)
    assert "has taken no job for" in capsys.readouterr().err


def test_jobs_in_flight_never_exceed_what_was_asked_for(tmp_path: Path) -> None:
    endpoint = QueueEndpoint(polls=3)
    most = []
    endpoint.on_status = lambda job: most.append(sum(one.polls > 0 for one in endpoint.jobs.values()))  # type: ignore[func-returns-value]
    assert at_queue(endpoint, written(tmp_path, *(f"Text {n}." for n in range(9))), "--jobs", "3")[0] == 0
    assert max(most) == 3


def test_nothing_is_sent_when_the_manifest_or_the_options_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = QueueEndpoint()
    book = tmp_path / "book.txt"
    book.write_text("A text.\n")
    with endpoint.running() as api:
        for source, options, words in (
            (written(tmp_path, "Good.", {"script": "x", "top_p": 7}, name="bad.jsonl"), (), ":2:17: top_p is 7"),
            (written(tmp_path, "Good."), ("--join", "b.wav"), "--join is for books"),
            (tmp_path / "missing.jsonl", (), "cannot be read"),
            (book, ("--set", "text=x"), "--set text is for manifests"),
            (book, ("--join", f"{tmp_path}/missing/b.mp3"), "--join is "),
        ):
            where = ["--endpoint", "e1", "--api", api]
            assert client.main(["batch", str(source), "-o", str(tmp_path / "out"), *where, *options]) == 2
            assert words in capsys.readouterr().err
    assert endpoint.asked == {}
    assert not (tmp_path / "out").exists()


def test_a_folder_with_jobs_at_another_endpoint_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = written(tmp_path, "One."), tmp_path / "out"
    endpoint = QueueEndpoint()
    endpoint.on_status = lambda job: (500, {})
    with endpoint.running() as api:
        where = ["-o", str(output), "--api", api, "--retries", "0", "--endpoint"]
        assert client.main(["batch", str(source), *where, "e1"]) == 1
        assert client.main(["batch", str(source), *where, "e2"]) == 1
        assert f"jobs under way at {api}/e1 (1); go on there" in capsys.readouterr().err
        endpoint.on_status = lambda job: None
        assert client.main(["batch", str(source), *where, "e1"]) == 0
    assert endpoint.submissions["One."] == 1


def test_a_book_becomes_numbered_chapters_a_list_and_one_file(
    server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "My Book.txt"
    book.write_text("# One\n\nFirst.\n\n# Two\n\nSecond.\n\nThird paragraph of it.\n")
    output, joined = tmp_path / "out", tmp_path / "book.flac"
    options = ["--seed", "3", "--set", "max_new_tokens=30", "--part-characters", "25", "--join", str(joined)]
    assert client.main(["batch", str(book), "-o", str(output), "--url", server.url, *options]) == 0
    names = ["01-one.mp3", "02-two-part-1.mp3", "02-two-part-2.mp3"]
    assert sorted(path.name for path in output.iterdir()) == [".batch", *names, "my-book.m3u", "report.json"]
    assert [line for line in (output / "my-book.m3u").read_text().splitlines() if line[0] != "#"] == names
    seconds = sum(soundfile.info(output / name).duration for name in names)
    assert soundfile.info(joined).duration == pytest.approx(seconds + 2.0, abs=0.01)
    told = capsys.readouterr()
    assert "No voice is chosen" in told.err
    assert str(joined) in told.out
