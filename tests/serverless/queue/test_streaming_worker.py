"""The worker as a generator (HIGGS_AUDIO_STREAMING=1), with a result limit low enough to reach."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.helpers.audio import audio_of, decoded
from tests.helpers.fake_platform import STREAM_LIMIT, FakePlatform, Record
from tests.helpers.processes import WorkerProcess
from tests.serverless.queue.test_worker_process import ENDLESS, LONG

MAX_RESULT = 1_500_000
JOB = {"script": "This comes in parts.", "seed": 4, "max_new_tokens": 120, "stream": True}
# About 50 seconds: as PCM16 in base64 some 3 MB, twice what this worker may return.
TOO_LONG = {**LONG, "script": " ".join(f"Piece number {i} comes now." for i in range(22)), "stream": True}


@pytest.fixture(scope="module")
def platform() -> Iterator[FakePlatform]:
    with FakePlatform() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def worker(platform: FakePlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    log = tmp_path_factory.mktemp("worker") / "log"
    environment = {"HIGGS_AUDIO_STREAMING": "1", "HIGGS_AUDIO_MAX_INLINE_BYTES": str(MAX_RESULT)}
    with WorkerProcess(platform, log, **environment) as running:
        running.ensure_ready()
        yield running


def items_of(record: Record) -> list[dict[str, Any]]:
    assert all(post.status == 200 for post in record.of("stream"))
    assert all(post.size < STREAM_LIMIT for post in record.of("stream"))
    return [post.body["output"] for post in record.of("stream")]


def joined(items: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(item["audio_base64"]) for item in items if "audio_base64" in item)


def whole(platform: FakePlatform, job: dict[str, Any]) -> dict[str, Any]:
    """The same job, not streamed."""
    output: list[dict[str, Any]] = platform.run({**job, "stream": False}).result["output"]
    assert len(output) == 1
    return output[0]


@pytest.mark.parametrize("audio_format", ["wav", "pcm", "flac"])
def test_the_parts_joined_are_the_audio_of_the_job_in_one_piece(platform: FakePlatform, audio_format: str) -> None:
    job = {**JOB, "response_format": audio_format}
    record = platform.run(job)
    items = items_of(record)
    *parts, final = items

    assert [item["index"] for item in items] == list(range(len(items)))
    assert [item["is_final"] for item in items] == [False] * len(parts) + [True]
    assert "audio_base64" not in final
    assert final["usage"]["completion_tokens"] > 0
    assert final["timings"]["total"] >= final["timings"]["first_audio"] > 0
    streamed = decoded(joined(items), audio_format)
    np.testing.assert_allclose(streamed, audio_of(whole(platform, job)), atol=2 / 32768)
    assert len(streamed) == round(final["duration_seconds"] * 24_000)


def test_each_part_says_where_its_audio_begins(platform: FakePlatform) -> None:
    *parts, final = items_of(platform.run({**JOB, "response_format": "pcm"}))
    assert len(parts) > 1
    samples = 0
    for part in parts:
        assert part["start_seconds"] == pytest.approx(samples / 24_000, abs=1e-3)
        assert (part["audio_format"], part["mime_type"], part["sampling_rate"]) == ("pcm", "audio/pcm", 24_000)
        samples += len(base64.b64decode(part["audio_base64"])) // 2
    assert samples == round(final["duration_seconds"] * 24_000)


@pytest.mark.parametrize("audio_format", ["mp3", "opus"])
def test_compressed_parts_decode_to_the_same_speech(platform: FakePlatform, audio_format: str) -> None:
    job = {**JOB, "response_format": audio_format}
    items = items_of(platform.run(job))
    streamed = decoded(joined(items), audio_format)
    assert len(streamed) >= round(items[-1]["duration_seconds"] * 24_000)


def test_the_result_of_run_is_the_list_of_the_items(platform: FakePlatform) -> None:
    record = platform.run(JOB)
    assert record.result["output"] == items_of(record)
    assert record.results[0].is_stream


def test_a_job_that_asks_for_no_stream_yields_exactly_one_item(platform: FakePlatform) -> None:
    record = platform.run({"script": "All at once.", "seed": 4, "max_new_tokens": 60})
    (item,) = items_of(record)
    assert record.result["output"] == [item]
    assert audio_of(item).size > 0


def test_a_failure_posts_a_string_and_the_worker_lives_on(platform: FakePlatform) -> None:
    record = platform.run({"script": "Hi.", "temperature": -1, "stream": True})
    assert isinstance(record.result["error"], str)
    assert "temperature" in record.result["error"]
    assert record.of("stream") == []
    assert items_of(platform.run(JOB))


def test_one_item_too_large_for_the_stream_is_whole_in_the_result(platform: FakePlatform) -> None:
    # 10 seconds as float32: 1.3 MB in base64, over the stream's limit and under the result's.
    job = {**LONG, "script": " ".join(f"Piece number {i} comes now." for i in range(4)), "wav_encoding": "float32"}
    record = next(r for r in (platform.run({**job, "seed": s}) for s in range(20)) if is_between_the_limits(r))
    (streamed,) = items_of(record)
    (kept,) = record.result["output"]
    assert "audio_base64" not in streamed
    assert any("audio_base64" in warning for warning in streamed["warnings"])
    assert audio_of(kept).size > 0


def is_between_the_limits(record: Record) -> bool:
    output = record.result.get("output")
    return bool(output) and 7.6 < output[0].get("duration_seconds", 0) < 11


def test_a_stream_too_long_for_the_result_keeps_its_audio_in_the_items_alone(platform: FakePlatform) -> None:
    record = platform.run(TOO_LONG)
    streamed, kept = items_of(record), record.result["output"]
    duration = streamed[-1]["duration_seconds"]
    assert len(decoded(joined(streamed), "wav")) == round(duration * 24_000)
    assert duration * 48_000 > MAX_RESULT
    assert record.results[0].size < MAX_RESULT
    assert joined(kept) == b""
    assert all(item["audio_in_stream_only"] for item in kept[:-1])
    assert any("stream's items" in warning for warning in kept[-1]["warnings"])


def test_a_stream_cancelled_in_the_middle_frees_its_slot(platform: FakePlatform) -> None:
    records = [platform.submit({**ENDLESS, "stream": True}, name="cancelled") for _ in range(8)]
    platform.wait_until_taken(records)
    for record in records:
        platform.cancel(record)
    after = platform.run({**JOB, "seed": 8})
    assert items_of(after)[-1]["is_final"]
    assert [record.results for record in records] == [[]] * 8
