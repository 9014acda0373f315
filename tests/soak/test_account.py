"""What the soak would notice: a lost job, a doubled one, another answer, memory or handles that are kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from tests.soak.answers import GONE, Answer, of_items
from tests.soak.clips import base64_text, saved
from tests.soak.flatness import MOST_MB_PER_1000_JOBS, flatness
from tests.soak.job_lines import JobLines
from tests.soak.ledger import Ledger
from tests.soak.planned import FINISHED, Leaving, Planned
from tests.soak.report import faults
from tests.soak.run import Soaked
from tests.soak.traffic import counts, one_round
from tests.soak.watch import Sample

PLANNED = Planned("plain", "valid", {"script": "Hello."}, repeats=True)


def rest(jobs: int, anonymous: float = 500.0, *, files: int = 16, threads: int = 12, children: int = 1) -> Sample:
    return Sample(jobs / 10, jobs, anonymous + 350, anonymous, files, threads, children, 100.0)


def soaked(ledger: Ledger, exit_status: int = 0) -> Soaked:
    return Soaked(ledger.door, ledger, [], [rest(jobs) for jobs in range(0, 700, 100)], exit_status)


def test_memory_that_stays_is_flat_whatever_it_does_at_first() -> None:
    rests = [rest(0, 300.0), rest(100, 450.0), *(rest(jobs, 600.0 + jobs % 7) for jobs in range(200, 1000, 100))]
    assert flatness(rests).faults == []


def test_one_outlier_is_no_growth() -> None:
    rests = [rest(jobs) for jobs in range(0, 1000, 100)]
    rests[-1] = rest(900, 900.0)
    assert flatness(rests).faults == []


@pytest.mark.parametrize("noise", [0.0, 30.0])
def test_memory_that_grows_with_every_job_is_found(noise: float) -> None:
    draw = random.Random(1)
    slope = 3 * MOST_MB_PER_1000_JOBS / 1000
    rests = [rest(jobs, 500 + slope * jobs + draw.uniform(0, noise)) for jobs in range(0, 3000, 100)]
    found = flatness(rests)
    assert found.mb_per_1000_jobs == pytest.approx(1000 * slope, rel=0.2)
    assert "memory grew" in found.faults[0]


@pytest.mark.parametrize("kept", ["files", "threads", "children"])
def test_handles_that_are_kept_are_found(kept: str) -> None:
    rests = [rest(jobs, **{kept: 1 + jobs // 50}) for jobs in range(0, 1000, 100)]
    assert len(flatness(rests).faults) == 1


def test_a_job_without_an_answer_is_a_fault() -> None:
    ledger = Ledger("queue")
    ledger.send(PLANNED)
    ledger.lose(PLANNED)
    assert any("no answer" in fault for fault in faults(soaked(ledger)))
    assert any("1 jobs were sent and 0 ended" in fault for fault in faults(soaked(ledger)))


def test_an_answer_that_was_not_expected_is_a_fault() -> None:
    ledger = Ledger("http")
    ledger.send(PLANNED)
    ledger.settle(PLANNED, Answer("internal_error"))
    assert any("internal_error" in fault for fault in faults(soaked(ledger)))


def test_repeated_requests_with_other_answers_are_a_fault() -> None:
    ledger = Ledger("http")
    for tokens in range(10):
        ledger.send(PLANNED)
        ledger.settle(PLANNED, Answer(FINISHED, 100, tokens))
    assert (ledger.repeated, ledger.differing) == (9, 9)
    assert any("another answer" in fault for fault in faults(soaked(ledger)))


def test_a_client_that_left_is_neither_lost_nor_compared() -> None:
    ledger = Ledger("queue")
    left = Planned("left", "cancelled", {}, frozenset({"left"}), repeats=True, leaving=Leaving(seconds=1))
    for _ in range(2):
        ledger.send(left)
        ledger.settle(left, GONE)
    assert faults(soaked(ledger)) == []
    assert ledger.repeated == 0


def test_a_process_that_ends_badly_is_a_fault() -> None:
    assert faults(soaked(Ledger("queue"), exit_status=1)) == ["queue: the process ended with 1"]


def test_audio_of_another_length_than_the_answer_says_is_broken() -> None:
    audio = base64_text(saved(np.full(24_000, 0.1, np.float32)))
    answer = {"audio_base64": audio, "audio_format": "wav", "usage": {"completion_tokens": 5}}
    assert of_items([{**answer, "duration_seconds": 1.0}]).samples == 24_000
    with pytest.raises(AssertionError, match="24000 samples where the answer says 48000"):
        of_items([{**answer, "duration_seconds": 2.0}])


def test_the_lines_of_jobs_are_counted_once_each(tmp_path: Path) -> None:
    log = tmp_path / "log"
    line = json.dumps({"requestId": "job-1", "fields": {"outcome": "failed", "code": "busy"}})
    log.write_text(f"no JSON\n{line}\n{line[:20]}")
    lines = JobLines(log)
    lines.update()
    lines.update()
    assert lines.lines == {"job-1": 1}
    assert lines.codes == {"job-1": "busy"}
    log.write_text(f"no JSON\n{line}\n{line}\n")
    lines.update()
    assert lines.lines == {"job-1": 2}


def spoken(job: Planned) -> tuple[str, object]:
    """What a job asks for, without its clips: a file may hold the time at which it was written."""
    fields = job.job_input if isinstance(job.job_input, dict) else {}
    return job.shape, {name: value for name, value in fields.items() if name != "references"}


def test_a_seed_gives_the_same_traffic_and_every_round_other_jobs() -> None:
    first, again, second = (one_round("http", 7, number, "http://127.0.0.1:1/") for number in (0, 0, 1))
    assert [spoken(job) for job in first] == [spoken(job) for job in again]
    assert counts(first) == counts(second)
    assert sorted(job.shape for job in first) == sorted(job.shape for job in second)
    repeated = {job.shape: job.job_input for job in first if job.repeats}
    assert repeated == {job.shape: job.job_input for job in second if job.repeats}
    fresh = [job.job_input for job in first if job.shape == "plain" and not job.repeats]
    assert all(job.job_input not in fresh for job in second)
