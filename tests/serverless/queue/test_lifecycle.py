"""How the worker starts and ends: settings, a model that does not load, SIGTERM in the middle of everything."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from tests.helpers.audio import audio_of
from tests.helpers.fake_platform import FakePlatform
from tests.helpers.patience import PATIENCE
from tests.helpers.worker_process import WorkerProcess
from tests.serverless.queue.test_worker_process import wait_until_taken

Start = Callable[..., tuple[FakePlatform, WorkerProcess]]
JOB = {
    "script": " ".join(f"Piece number {i} comes now." for i in range(6)),
    "chunk_method": "sentence",
    "chunk_max_word_num": 5,
    "max_new_tokens": 300,
}


def test_a_wrong_setting_stops_the_boot_with_one_line(start: Start) -> None:
    platform, worker = start(HIGGS_AUDIO_TOP_P="7")
    assert worker.wait_for_exit() == 2
    assert worker.log.splitlines() == ["HIGGS_AUDIO_TOP_P is '7'; allowed is above 0 and at most 1, or blank for off."]
    assert platform.polls == 0


def test_a_model_that_does_not_load_makes_the_worker_unhealthy_and_says_why(start: Start) -> None:
    platform, worker = start(HIGGS_AUDIO_MODEL_ID="/nowhere/no-model", HIGGS_AUDIO_SPELING="1")
    waiting = platform.submit({"script": "Hello."})
    assert worker.wait_for_exit() == 1
    assert platform.polls == 0
    assert waiting.taken == 0
    unhealthy = [ping for ping in platform.pings if ping.get("status") == "unhealthy"]
    assert len(unhealthy) == 1
    assert unhealthy[0]["check"] == "model_is_loaded"
    assert "ModelLoadError" in worker.log or "no-model" in worker.log
    assert "Traceback" not in worker.log
    assert "HIGGS_AUDIO_SPELING is not a setting" in worker.log


def test_sigterm_loses_no_job_not_even_one_that_an_open_poll_brings(start: Start) -> None:
    platform, worker = start(poll_seconds=60, HIGGS_AUDIO_MAX_CONCURRENCY="4")  # longer than it takes to be told
    worker.wait_until_ready()
    running = [platform.submit({**JOB, "seed": seed}) for seed in range(2)]
    wait_until_taken(running)
    wait_for(lambda: platform.open_polls == 1)  # two slots are free
    worker.sigterm()
    wait_for(lambda: "draining" in worker.log)
    time.sleep(0.5)  # by now the SDK, left to itself, has stopped to look at what its poll brings
    late = [platform.submit({"script": "One more.", "seed": seed, "max_new_tokens": 60}) for seed in range(6)]
    assert worker.wait_for_exit() == 0

    taken_late = [record for record in late if record.taken]
    assert taken_late, "the poll was not open, so this showed nothing"
    assert len(taken_late) <= 2, "a worker that was told to stop went on taking jobs"
    for record in [*running, *taken_late]:
        assert record.taken == 1
        assert audio_of(record.result["output"]).size > 0
    assert all(record.posts == [] for record in late if not record.taken)
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    assert {line["level"] for line in lines} <= {"INFO", "WARN"}


def test_a_long_job_reports_its_progress_to_the_platform(start: Start) -> None:
    platform, worker = start(module="tests.helpers.impatient_worker")
    worker.wait_until_ready()
    record = platform.run({**JOB, "script": " ".join(f"Piece number {i} comes now." for i in range(12)), "seed": 1})
    # The SDK posts each update from a thread of its own, so the last ones may arrive after the result.
    wait_for(lambda: len({update.body["output"]["share"] for update in record.of("progress")}) >= 2)
    updates = [update.body["output"] for update in record.of("progress")]
    assert all(0 < update["share"] < 1 for update in updates)
    assert all(update["audio_seconds"] >= 0 for update in updates)
    assert len(record.results) == 1


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
