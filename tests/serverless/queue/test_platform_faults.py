"""The real SDK in a process, and a platform that fails in every way on each of its paths."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.helpers.audio import audio_of, decoded
from tests.helpers.fake_platform import FakePlatform, Fault, Record
from tests.helpers.patience import wait_until
from tests.helpers.processes import WorkerProcess
from tests.serverless.queue.test_worker_process import ENDLESS

HASTY = "tests.helpers.hasty_worker"
JOB = {"script": "Hello there.", "max_new_tokens": 40, "seed": 1}
SEVERAL_PIECES = {
    "script": " ".join(f"Piece number {i} comes now." for i in range(5)),
    "chunk_method": "sentence",
    "chunk_max_word_num": 5,
    "max_new_tokens": 120,
}


@pytest.fixture(scope="module")
def platform() -> Iterator[FakePlatform]:
    with FakePlatform() as running:
        yield running


@pytest.fixture(scope="module")
def shared_worker(
    platform: FakePlatform, store: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    bucket = {
        "BUCKET_ENDPOINT_URL": store,
        "BUCKET_NAME": "speech",
        "BUCKET_ACCESS_KEY_ID": "a",
        "BUCKET_SECRET_ACCESS_KEY": "b",
        "BUCKET_PREFIX": "faults",
    }
    with WorkerProcess(platform, tmp_path_factory.mktemp("worker") / "log", module=HASTY, **bucket) as running:
        yield running


@pytest.fixture
def worker(platform: FakePlatform, shared_worker: WorkerProcess) -> WorkerProcess:
    """The module's one worker; the tests at the end end it."""
    shared_worker.ensure_ready()
    return shared_worker


def fault_id(value: Any) -> str:
    return (
        f"{'handled-' * value.handled}{'silent' * value.silent}{'reset' * value.reset}{value.status}"
        if isinstance(value, Fault)
        else str(value)
    )


NOT_TAKEN = [
    Fault(400),
    Fault(403),
    Fault(429),
    Fault(429, headers={"Retry-After": "99999999"}),
    Fault(429, headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}),
    Fault(500),
    Fault(502, b"<html>", "text/html"),
    Fault(reset=True),
    Fault(silent=True),
]
"""Answers to a POST that the platform has not acted upon."""
UNKNOWN = [Fault(500, handled=True), Fault(reset=True, handled=True), Fault(silent=True, handled=True)]
"""Answers after which a worker cannot know that the platform has the result."""


@pytest.mark.parametrize("fault", NOT_TAKEN, ids=fault_id)
def test_a_result_that_is_not_taken_is_sent_again(platform: FakePlatform, worker: WorkerProcess, fault: Fault) -> None:
    platform.fails("job-done", *[fault] * (1 if fault.silent else 3))
    record = platform.run(JOB)
    assert audio_of(record.result["output"]).size > 0
    worker.assert_runs()


@pytest.mark.parametrize("fault", UNKNOWN, ids=fault_id)
def test_a_result_that_was_taken_unseen_is_only_repeated(
    platform: FakePlatform, worker: WorkerProcess, fault: Fault
) -> None:
    before = len(platform.arrivals["job-done"])
    platform.fails("job-done", fault)
    record = platform.run(JOB)
    wait_until(lambda: len(platform.arrivals["job-done"]) == before + 2)
    wait_until(lambda: len(record.results) == 2)
    assert len(record.answers) == 1


def test_a_result_that_is_refused_for_good_becomes_an_error_the_client_can_read(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    before = len(platform.arrivals["job-done"])
    platform.fails("job-done", *[Fault(400)] * 6)
    body = platform.run(JOB).result
    assert "refused the result with status 400" in body["error"]
    assert body["output"]["code"] == "delivery_failed"
    assert len(platform.arrivals["job-done"]) == before + 7
    assert audio_of(platform.run(JOB).result["output"]).size > 0


def test_a_platform_that_never_takes_a_result_does_not_keep_the_slot(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    platform.keeps_failing("job-done", Fault(403))
    refused = [platform.submit(JOB) for _ in range(8)]
    platform.wait_until_taken(refused)
    wait_until(lambda: worker.log.count("in 6 attempts (status 403)") >= 8)
    platform.heals("job-done")
    assert audio_of(platform.run(JOB).result["output"]).size > 0


def test_polls_are_spaced_out_while_the_platform_fails_and_jobs_come_at_once_afterwards(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    odd = [b"{{{{", b"", b"null", b'"text"', b'{"input": {}}', b'{"id": "x"}', b"[" * 20_000, b"\xff\xfe", b"[]"]
    faults = [
        *(Fault(status) for status in (400, 401, 403, 404, 429, 500, 502)),
        Fault(204, b""),
        Fault(200, b"<html>", "text/html"),
        *(Fault(200, body) for body in odd),
    ]
    platform.fails("job-take", *faults)
    before = len(platform.arrivals["job-take"])
    platform.run(JOB)  # ends the poll that is open
    wait_until(lambda: len(platform.arrivals["job-take"]) > before + len(faults))
    arrivals = platform.arrivals["job-take"][before:][: len(faults) + 1]
    # Each came after the answer to the one before it, and at least half of the shortest wait later.
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(arrivals))
    assert audio_of(platform.run(JOB).result["output"]).size > 0
    assert "Traceback" not in worker.log


def test_a_platform_that_is_gone_is_awaited(platform: FakePlatform, worker: WorkerProcess) -> None:
    before = worker.log.count("asking the platform for jobs failed")
    with platform.away():
        wait_until(lambda: worker.log.count("asking the platform for jobs failed") > before)
    assert audio_of(platform.run(JOB).result["output"]).size > 0


def test_jobs_that_cannot_be_run_are_dropped_and_the_others_run(platform: FakePlatform, worker: WorkerProcess) -> None:
    ids = [None, 5, 1.5, True, "", " ", "a b", "a\nb", "a/b", "../../x", "..", "a?b#c", "a,b", "\ud800", "é", "x" * 300]
    good = [platform.expect("good-1"), platform.expect("good-2"), platform.expect("no-input")]
    jobs: list[Any] = [
        *({"id": job_id, "input": JOB} for job_id in ids),
        *({"input": JOB}, {}, [], [1], "text", 7, None, [[]], {"id": {"id": "nested"}, "input": JOB}),
        {"id": "good-1", "input": JOB, "self": 1, "__class__": 2, "_x": 3, "not a name": 4, "": 5},
        {"id": "good-2", "input": JOB},
        {"id": "good-2", "input": {**JOB, "seed": 9}},
        {"id": "no-input"},
    ]
    platform.fails("job-take", Fault(200, json.dumps(jobs).encode()))
    platform.run(JOB)  # ends the poll that is open
    platform.wait(good)
    assert [record.result["output"].get("seed") for record in good] == [1, 1, None]
    assert "Request must include" in good[2].result["error"]
    assert audio_of(platform.run(JOB).result["output"]).size > 0
    assert "25 jobs without a usable id" in worker.log
    assert "Traceback" not in worker.log


def test_a_job_that_is_delivered_again_while_it_runs_is_answered_once(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    dropped = worker.log.count("each is answered once")
    record = platform.submit({**SEVERAL_PIECES, "seed": 2})
    platform.wait_until_taken([record])
    platform.keeps_failing("job-done", Fault(429))  # so that it runs until all of this has happened
    platform.deliver_again(record)
    wait_until(lambda: worker.log.count("each is answered once") == dropped + 1)
    platform.heals("job-done")
    platform.wait([record])
    assert record.taken == 2
    assert audio_of(record.result["output"]).size > 0


def test_a_job_that_is_delivered_again_later_gets_the_same_answer(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    record = platform.run(JOB)
    platform.deliver_again(record)
    wait_until(lambda: len(record.results) == 2)
    assert len({post.body["output"]["audio_base64"] for post in record.results}) == 1


def test_stop_signals_and_pings_that_fail_harm_no_job(platform: FakePlatform, worker: WorkerProcess) -> None:
    odd = [b"{", b"", b"[1]", b'{"jobsToStop": 5}', b'{"jobsToStop": [1, null, ["x"]]}', b'{"jobsToStop": ["nobody"]}']
    bodies = [Fault(200, body) for body in odd]
    platform.fails("job-stop", *bodies, Fault(400), Fault(500), Fault(reset=True), Fault(200, b"<p>", "text/html"))
    platform.fails("ping", *bodies, Fault(400), Fault(429), Fault(500), Fault(reset=True), Fault(silent=True))
    pings, stops = len(platform.arrivals["ping"]), len(platform.arrivals["job-stop"])
    records = [platform.run({**JOB, "seed": seed}) for seed in range(3)]
    endless = platform.submit(ENDLESS)
    platform.wait_until_taken([endless])
    wait_until(lambda: len(platform.arrivals["job-stop"]) > stops + 9 and len(platform.arrivals["ping"]) > pings + 2)
    platform.heals("ping")
    platform.cancel(endless)
    others = [platform.submit({**JOB, "seed": seed}) for seed in range(8)]  # eight slots, so one waits for the stopped
    platform.wait(others)
    assert all(audio_of(record.result["output"]).size for record in [*records, *others])
    assert endless.results == []


def test_useless_stop_signals_are_not_asked_for_without_a_pause(platform: FakePlatform, worker: WorkerProcess) -> None:
    platform.fails("job-stop", *[Fault(200, b'{"jobsToStop": ["nobody"]}')] * 4)
    before = len(platform.arrivals["job-stop"])
    wait_until(lambda: len(platform.arrivals["job-stop"]) > before + 5)
    arrivals = platform.arrivals["job-stop"][before + 1 :][:4]
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(arrivals))


# -- Signals at any moment; each test ends the worker -----------------------------------------------------------------


def mixed_jobs(rng: random.Random, **beside: Any) -> list[dict[str, Any]]:
    """Twelve jobs, more than there are slots, of one piece and of several."""
    return [{**rng.choice([JOB, SEVERAL_PIECES]), "seed": seed, **beside} for seed in range(12)]


def after_some_posts(platform: FakePlatform, path: str, rng: random.Random) -> None:
    """Wait until a drawn number of posts has come: some jobs wait, some are generated, some are delivered."""
    wanted = len(platform.arrivals[path]) + rng.randint(1, 6)
    wait_until(lambda: len(platform.arrivals[path]) >= wanted)


def sigterm_and_wait(platform: FakePlatform, worker: WorkerProcess) -> list[Record]:
    """The jobs that were taken after the signal: the poll that is open brings at least one."""
    before = worker.log.count("draining")
    worker.sigterm()
    wait_until(lambda: worker.log.count("draining") > before)
    late = platform.submit(JOB)
    assert worker.wait_for_exit() == 0
    return [late] if late.taken else []


def test_after_sigkill_another_worker_answers_the_same_jobs(
    platform: FakePlatform, worker: WorkerProcess, store: str
) -> None:
    rng = random.Random(5)
    records = [platform.submit(job, name="killed") for job in mixed_jobs(rng, delivery="s3")]
    after_some_posts(platform, "job-done", rng)
    worker.__exit__()  # SIGKILL also for the process that pings, as when a container ends
    for record in records:
        if record.taken and not record.ended.is_set():
            platform.deliver_again(record)
    worker.ensure_ready()
    platform.wait(records)

    client = boto3.client(
        "s3", endpoint_url=store, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    found = client.list_objects_v2(Bucket="speech", Prefix="faults/")["Contents"]
    assert sorted(entry["Key"] for entry in found) == sorted(f"faults/{record.job['id']}.wav" for record in records)
    for record in records:
        key = f"faults/{record.job['id']}.wav"
        assert f"/{key}?" in record.answers[-1]["output"]["audio_url"]
        assert decoded(client.get_object(Bucket="speech", Key=key)["Body"].read(), "wav").size > 0


def test_sigterm_at_any_moment_leaves_no_taken_job_unanswered(platform: FakePlatform, worker: WorkerProcess) -> None:
    rng = random.Random(3)
    platform.fails("job-done", *rng.choices([*NOT_TAKEN[:-1], *UNKNOWN[:-1]], k=6))
    records = [platform.submit(job) for job in mixed_jobs(rng)]
    after_some_posts(platform, "job-done", rng)
    late = sigterm_and_wait(platform, worker)
    taken = [record for record in [*records, *late] if record.taken]
    assert taken
    for record in taken:
        assert record.taken == 1
        (answer,) = record.answers
        assert audio_of(answer["output"]).size > 0
    assert all(record.posts == [] for record in records if not record.taken)


def test_sigterm_sends_a_result_that_is_held(platform: FakePlatform, worker: WorkerProcess) -> None:
    platform.keeps_failing("job-done", Fault(429, headers={"Retry-After": "99999999"}))
    before = len(platform.arrivals["job-done"])
    held = platform.submit(JOB)
    wait_until(lambda: len(platform.arrivals["job-done"]) > before)
    worker.sigterm()
    wait_until(lambda: worker.process.poll() is not None or len(platform.arrivals["job-done"]) > before + 1)
    platform.heals("job-done")
    late = platform.submit(JOB)  # ends the poll that is open
    assert worker.wait_for_exit() == 0
    for record in [held, *([late] if late.taken else [])]:
        assert audio_of(record.result["output"]).size > 0


def test_sigterm_ends_a_worker_whose_platform_is_gone(platform: FakePlatform, worker: WorkerProcess) -> None:
    platform.keeps_failing("job-done", Fault(500))
    before = len(platform.arrivals["job-done"])
    platform.submit(JOB)
    wait_until(lambda: len(platform.arrivals["job-done"]) > before)
    with platform.away():
        worker.sigterm()
        assert worker.wait_for_exit() == 0
    assert "the platform did not take the result in" in worker.log


def test_sigterm_at_any_moment_of_streams(tmp_path: Path) -> None:
    rng = random.Random(4)
    with (
        FakePlatform() as platform,
        WorkerProcess(platform, tmp_path / "log", module=HASTY, HIGGS_AUDIO_STREAMING="1") as worker,
    ):
        worker.ensure_ready()
        platform.fails("job-stream", *NOT_TAKEN)
        first = platform.run({**JOB, "stream": True})
        assert [post.body["output"]["index"] for post in first.of("stream")] == list(range(len(first.of("stream"))))

        platform.fails("job-stream", *rng.choices(NOT_TAKEN[:-1], k=6))
        platform.fails("job-done", *rng.choices(NOT_TAKEN[:-1], k=3))
        records = [platform.submit(job) for job in mixed_jobs(rng, stream=True)]
        after_some_posts(platform, "job-stream", rng)
        late = sigterm_and_wait(platform, worker)
        for record in [record for record in [*records, *late] if record.taken]:
            (answer,) = record.answers
            assert answer["output"][-1].get("is_final", True)
            assert [post.body["output"] for post in record.of("stream")] == answer["output"]
