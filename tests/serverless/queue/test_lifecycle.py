"""How the worker starts and ends: settings, a model that does not load, SIGTERM in the middle of everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.fake_platform import FakePlatform
from tests.helpers.patience import wait_until
from tests.helpers.processes import WorkerProcess

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


def test_a_worker_that_cannot_boot_is_unhealthy_and_says_why(start: Start) -> None:
    """With broken voices instead of a broken model, as those are read before torch is imported."""
    platform, worker = start(HIGGS_AUDIO_VOICES_DIR="/nowhere/no-voices", HIGGS_AUDIO_SPELING="1")
    waiting = platform.submit({"script": "Hello."})
    assert worker.wait_for_exit() == 1
    assert platform.polls == 0
    assert waiting.taken == 0
    unhealthy = [ping for ping in platform.pings if ping.get("status") == "unhealthy"]
    assert len(unhealthy) == 1
    assert unhealthy[0]["check"] == "model_is_loaded"
    assert "voice" in worker.log
    assert "Traceback" not in worker.log
    assert "HIGGS_AUDIO_SPELING is not a setting" in worker.log


@pytest.mark.parametrize("left", ["nothing", "a torn file"])
def test_a_model_whose_disk_is_missing_or_torn_ends_the_worker_with_a_sentence(
    start: Start, tmp_path: Path, left: str
) -> None:
    """The process ends by itself, once, with a status that is not 0; it never asks for a job."""
    model = tmp_path / "disk" / "model"
    if left == "a torn file":
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"model_type": "higgs_au')
    platform, worker = start(HIGGS_AUDIO_MODEL_ID=str(model))
    waiting = platform.submit({"script": "Hello."})
    assert worker.wait_for_exit() == 1
    assert (platform.polls, waiting.taken) == (0, 0)
    unhealthy = [ping for ping in platform.pings if ping.get("status") == "unhealthy"]
    assert [ping["check"] for ping in unhealthy] == ["model_is_loaded"]
    assert str(tmp_path) not in unhealthy[0]["reason"]
    assert "Traceback" not in worker.log
    assert worker.log.count("Worker is unhealthy, exiting.") == 1


def test_a_long_job_reports_its_progress_to_the_platform(start: Start) -> None:
    platform, worker = start(module="tests.helpers.impatient_worker")
    worker.ensure_ready()
    record = platform.run({**JOB, "script": " ".join(f"Piece number {i} comes now." for i in range(12)), "seed": 1})
    # The SDK posts each update from a thread of its own, so the last ones may arrive after the result.
    wait_until(lambda: len({update.body["output"]["share"] for update in record.of("progress")}) >= 2)
    updates = [update.body["output"] for update in record.of("progress")]
    assert all(0 < update["share"] < 1 for update in updates)
    assert all(update["audio_seconds"] >= 0 for update in updates)
    assert len(record.results) == 1
