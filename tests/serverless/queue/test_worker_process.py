"""The real SDK as a process, with a handler of eight jobs at once, against a platform on loopback."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serverless.local.assets import with_address
from tests.helpers.audio import audio_of
from tests.helpers.fake_platform import FakePlatform, Record
from tests.helpers.paths import ROOT
from tests.helpers.patience import wait_until
from tests.helpers.processes import WorkerProcess

TEST_INPUTS = sorted((ROOT / "test_inputs").glob("*.json"))
TRAILING_PAUSES = {"pauses": 1.0}  # seconds after the last piece
SECRET_WORDS = "Xylophone zeppelins quarrel"
MAX_RESULT = 2_000_000
"""Bytes that this worker returns at the most; the platform itself takes ten times as many."""


def sentences(count: int) -> str:
    return " ".join(f"This is sentence number {i} of a long story." for i in range(count))


# Pieces of about three seconds each.
ENDLESS = {
    "script": sentences(52),
    "chunk_method": "sentence",
    "chunk_max_word_num": 9,
    "generation_chunk_buffer_size": 0,
    "wav_encoding": "float32",
    "max_new_tokens": 400,
    "seed": 3,
}
OVERSIZE = {**ENDLESS, "script": sentences(12)}
LONG = {**ENDLESS, "wav_encoding": "pcm_16", "script": " ".join(f"Piece number {i} comes now." for i in range(40))}


@pytest.fixture(scope="module")
def platform() -> Iterator[FakePlatform]:
    with FakePlatform() as running:
        yield running


@pytest.fixture(scope="module")
def shared_worker(platform: FakePlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    log = tmp_path_factory.mktemp("worker") / "log"
    with WorkerProcess(platform, log, HIGGS_AUDIO_MAX_INLINE_BYTES=str(MAX_RESULT)) as running:
        yield running


@pytest.fixture
def worker(shared_worker: WorkerProcess) -> WorkerProcess:
    """The module's one worker; one test ends it."""
    shared_worker.ensure_ready()
    return shared_worker


@pytest.fixture(scope="module")
def answers(platform: FakePlatform, shared_worker: WorkerProcess, assets_address: str) -> dict[str, Record]:
    """Every file of test_inputs/, all queued at once, of each piece the first seconds."""
    shared_worker.ensure_ready()
    records = {}
    for file in TEST_INPUTS:
        job_input = with_address(json.loads(file.read_text()), assets_address)["input"]
        job_input.get("openai_input", job_input)["max_new_tokens"] = 80
        records[file.stem] = platform.submit(job_input, name=file.stem)
    platform.wait(list(records.values()))
    return records


@pytest.mark.parametrize("name", [file.stem for file in TEST_INPUTS])
def test_a_test_input_is_taken_once_and_answered_with_the_audio_it_promises(
    answers: dict[str, Record], name: str
) -> None:
    record = answers[name]
    output = record.result["output"]
    asked = record.job["input"].get("openai_input", record.job["input"])

    assert "error" not in record.result
    assert record.taken == 1
    assert output["audio_format"] == str(asked.get("response_format", "wav")).lower()
    audio = audio_of(output)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() > 0
    assert output["usage"]["total_tokens"] == output["usage"]["prompt_tokens"] + output["usage"]["completion_tokens"]
    assert output["finish_reason"] in ("stop", "length")
    assert any("noise" in warning for warning in output["warnings"])
    silent = TRAILING_PAUSES.get(name, 0.0)
    assert output["chunks"][-1]["end_seconds"] + silent == pytest.approx(output["duration_seconds"], abs=0.01)


def test_a_script_alone_is_a_request(platform: FakePlatform, worker: WorkerProcess) -> None:
    outputs = [platform.run({"script": "Hello."}).result["output"] for _ in range(3)]
    assert all(audio_of(output).size > 0 for output in outputs)
    assert len({output["seed"] for output in outputs}) == 3


def test_the_same_seed_gives_the_same_audio_whatever_runs_beside_it(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    job = {"script": "Say it again.", "seed": 99, "max_new_tokens": 60, "return_audio_tokens": True}
    alone = platform.run(job).result["output"]
    records = [platform.submit({**job, "seed": seed}) for seed in (99, 1, 2, 99)]
    platform.wait(records)
    first, other, _, last = (record.result["output"] for record in records)
    for beside in (first, last):
        assert beside["generated_audio_tokens"] == alone["generated_audio_tokens"]
        # Two equally long decodes may run as one batch of the codec, whose sums end in another order.
        np.testing.assert_allclose(audio_of(beside), audio_of(alone), atol=2 / 32_768)
    assert other["generated_audio_tokens"] != alone["generated_audio_tokens"]


def test_tokens_come_back_on_request_and_fit_the_audio(answers: dict[str, Record]) -> None:
    output = answers["tokens"].result["output"]
    codes = np.array(output["generated_audio_tokens"])
    assert codes.shape[0] == 8
    assert codes.shape[1] * 960 == round(output["duration_seconds"] * 24_000)
    assert codes.min() >= 0
    assert codes.max() < 1024
    assert all(isinstance(token, int) for token in output["generated_text_tokens"])
    assert "generated_audio_tokens" not in answers["plain"].result["output"]


@pytest.mark.parametrize(
    ("job_input", "field", "sentence"),
    [
        ({}, "script", "Request must include a 'script'/'prompt' or pre-built 'messages'."),
        ({"messages": "hello"}, "messages", "'messages' must be an array of message objects."),
        ({"script": "Hi.", "references": [{"audio_base64": "%%%"}]}, "references[0]", "Invalid base64 audio payload."),
        ({"script": "Hi.", "temperature": "warm"}, "temperature", "temperature"),
        ({"script": "Hi.", "response_format": "midi"}, "response_format", "response_format"),
        ({"script": "Hi.", "references": [{"path": "/etc/passwd"}]}, "references[0]", "allowed folders"),
        ({"script": "Hi.", "references": [{"audio_url": "http://169.254.169.254/"}]}, "references[0]", "fetched"),
        ({"script": "Hi.", "voice": "nobody"}, "voice", "voice"),
        ({"script": "Hi.", "delivery": "s3"}, "delivery", "no bucket"),
        ("just text", "input", "input"),
        (["a", "list"], "input", "input"),
        (None, "script", "Request must include"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_job_posts_one_sentence_and_the_worker_lives_on(
    platform: FakePlatform, worker: WorkerProcess, job_input: Any, field: str, sentence: str
) -> None:
    body = platform.run(job_input).result
    assert isinstance(body["error"], str)
    assert sentence in body["error"]
    assert "\n" not in body["error"]
    assert body["output"]["error_type"].endswith("Error")
    assert body["output"]["code"]
    assert body["output"]["field"] == field
    assert "stopPod" not in body
    assert worker.process.poll() is None


def test_a_wrong_s3_config_is_refused_before_anything_is_generated(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    record = platform.run({"script": "Hi."}, s3Config={"accessId": "a", "bucketName": "my-bucket"})
    assert record.result["output"]["field"].startswith("s3Config.")
    assert "audio_base64" not in record.result["output"]


def test_a_cancelled_job_posts_nothing_and_frees_its_slot(platform: FakePlatform, worker: WorkerProcess) -> None:
    records = [platform.submit(ENDLESS, name="cancelled") for _ in range(8)]
    platform.wait_until_taken(records)
    for record in records:
        platform.cancel(record)
    # All eight slots were taken, so this one runs only when they are free again.
    after = platform.run({"script": "Now it is my turn.", "max_new_tokens": 40, "seed": 2})
    assert audio_of(after.result["output"]).size > 0
    assert [record.results for record in records] == [[]] * 8


def test_a_hundred_mixed_jobs_end_exactly_once_with_the_right_answer(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    rng = random.Random(20)
    kinds = ["good"] * 75 + ["invalid"] * 16 + ["cancelled"] * 8 + ["oversize"]
    rng.shuffle(kinds)
    records: list[tuple[str, Record]] = []
    for index, kind in enumerate(kinds):
        script = f"Job number {index}."
        job_input: Any = {
            "good": {
                "script": script,
                "max_new_tokens": rng.randint(12, 60),
                "seed": index,
                "return_audio_tokens": True,
            },
            "invalid": rng.choice([{"script": ""}, {"script": script, "top_p": 7}, {"messages": [{}]}, 17]),
            "cancelled": {**LONG, "seed": index},
            "oversize": OVERSIZE,
        }[kind]
        records.append((kind, platform.submit(job_input, name=kind)))
    for kind, record in records:
        if kind == "cancelled":
            platform.wait_until_taken([record])
            platform.cancel(record)
    platform.wait([record for kind, record in records if kind != "cancelled"])

    for kind, record in records:
        assert record.taken == 1
        assert all(post.status == 200 for post in record.posts), "the platform refused a result"
        if kind == "cancelled":
            assert record.results == [] or record.result["output"]["duration_seconds"] > 0  # done before the signal
            continue
        body = record.result
        if kind == "good":
            assert body["output"]["prompt"] == record.job["input"]["script"]
            assert body["output"]["seed"] == record.job["input"]["seed"]
            assert audio_of(body["output"]).size == 960 * len(body["output"]["generated_audio_tokens"][0])
        elif kind == "invalid":
            assert isinstance(body["error"], str)
            assert body["output"]["code"] == "invalid_request"
        else:
            assert body["output"]["code"] == "delivery_failed"
            assert "2.0 MB" in body["error"]
            assert "s3Config" in body["output"]["hint"]
    assert max(platform.batch_sizes) == 8


def test_the_log_has_one_line_a_job_in_the_platforms_shape_and_no_words(
    platform: FakePlatform, worker: WorkerProcess, tmp_path: Path
) -> None:
    secret = {"script": SECRET_WORDS, "max_new_tokens": 20, "seed": 3, "scene_prompt": "Hidden cavern"}
    good = platform.run(secret, name="good")
    bad = platform.run({**secret, "top_k": "forty", "references": []}, name="bad")
    unreachable = platform.run(
        {**secret, "references": [{"audio_url": "http://127.0.0.1:9/clip.wav?token=topsecret"}]}, name="unreachable"
    )
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    by_id = Counter(line["requestId"] for line in lines if line["message"].startswith("job "))
    for record in (good, bad, unreachable):
        assert by_id[record.job["id"]] == 1
    line = next(line for line in lines if line["requestId"] == good.job["id"] and "fields" in line)
    assert line["level"] == "INFO"
    assert line["fields"]["outcome"] == "finished"
    assert line["fields"]["characters"] == len(SECRET_WORDS)
    assert line["fields"]["duration_seconds"] == good.result["output"]["duration_seconds"]
    refused = next(line for line in lines if line["requestId"] == bad.job["id"] and "fields" in line)
    assert refused["fields"]["code"] == "invalid_request"
    assert refused["fields"]["field"] == "top_k"
    for word in ("Xylophone", "zeppelins", "Hidden cavern", "topsecret", "clip.wav", "Traceback"):
        assert word not in worker.log
    assert good.result["output"]["audio_base64"][:64] not in worker.log


def test_the_worker_pings_with_its_jobs(platform: FakePlatform, worker: WorkerProcess) -> None:
    assert platform.pings
    assert all(ping.get("status") != "unhealthy" for ping in platform.pings)


def test_sigterm_loses_no_job_not_even_one_that_an_open_poll_brings(
    platform: FakePlatform, worker: WorkerProcess
) -> None:
    several_pieces = {**LONG, "script": " ".join(f"Piece number {i} comes now." for i in range(6))}
    running = [platform.submit({"script": "A short one.", "seed": 0}), platform.submit(several_pieces)]
    platform.wait_until_taken(running)
    wait_until(lambda: platform.open_polls == 1)  # for the six slots that are free
    worker.sigterm()
    wait_until(lambda: "draining" in worker.log)
    platform.wait(running[:1])  # by then the SDK, left to itself, has stopped to look at what its poll brings
    late = [platform.submit({"script": "One more.", "seed": seed, "max_new_tokens": 60}) for seed in range(10)]
    assert worker.wait_for_exit() == 0

    taken_late = [record for record in late if record.taken]
    assert taken_late, "the poll was not open, so this showed nothing"
    assert len(taken_late) <= 6, "a worker that was told to stop went on taking jobs"
    for record in [*running, *taken_late]:
        assert record.taken == 1
        assert audio_of(record.result["output"]).size > 0
    assert all(record.posts == [] for record in late if not record.taken)
    after = worker.log[worker.log.index("draining") :]
    lines = [json.loads(line) for line in after.splitlines() if line.startswith("{")]
    pings = "Ping Request Error"  # of the SDK, whose pings time out on a busy machine
    assert [line for line in lines if line["level"] not in {"INFO", "WARN"} and pings not in line["message"]] == []
