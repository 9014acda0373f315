"""The handlers as the SDK's own job functions call them; test_worker_process.py runs them in a process of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from runpod.serverless.modules.rp_handler import is_generator
from runpod.serverless.modules.rp_job import run_job, run_job_generator
from runpod.serverless.modules.rp_scale import JobScaler

from higgs_core import HiggsAudioEngine
from higgs_core.speech.progress import Progress
from serverless.config.settings import Settings
from serverless.queue.handler import QueueWorker
from serverless.service.service import SpeechService
from tests.helpers.patience import wait_until_async
from tests.helpers.service import EngineOfSlots, serving

JOB = {"id": "job-1", "input": {"script": "A short sentence.", "seed": 4, "max_new_tokens": 60}}
LONG = {
    "id": "long",
    "input": {
        "script": " ".join(f"Piece number {i} comes now." for i in range(60)),
        "chunk_method": "sentence",
        "chunk_max_word_num": 5,
        "seed": 1,
        "stream": True,
    },
}


class Silent:
    """A reporter that nobody listens to."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.settled = False

    def __call__(self, progress: Progress) -> None:
        assert not self.settled, "progress was reported after the result was ready"

    async def settle(self) -> None:
        self.settled = True


def worker_of(service: SpeechService) -> QueueWorker:
    return QueueWorker(service, reporter=Silent)


async def streamed(worker: QueueWorker, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(item) async for item in run_job_generator(worker.config["handler"], job)]


def test_the_kind_of_handler_follows_the_setting(tiny_engine: HiggsAudioEngine) -> None:
    for streaming in (False, True):
        with serving(tiny_engine, streaming=streaming) as service:
            config = worker_of(service).config
        assert is_generator(config["handler"]) == streaming
        assert inspect.iscoroutinefunction(config["handler"]) != streaming
        assert config["return_aggregate_stream"]


def jobs_at_once(service: SpeechService) -> int:
    """What the SDK's scaler sets its concurrency to before it asks for the first jobs."""

    async def asked() -> int:
        scaler = JobScaler(worker_of(service).config)
        await scaler.set_scale()
        assert scaler.jobs_queue.maxsize == scaler.current_concurrency
        return int(scaler.current_concurrency)

    return asyncio.run(asked())


@pytest.mark.parametrize("setting", ["auto", 3, 64])
@pytest.mark.parametrize("slots", [1, 8, 32])
def test_a_worker_takes_as_many_jobs_as_the_engine_has_slots(
    tiny_engine: HiggsAudioEngine, setting: int | str, slots: int
) -> None:
    with serving(EngineOfSlots(tiny_engine, slots), max_concurrency=setting) as service:
        assert jobs_at_once(service) == slots  # what the engine really has, not what was asked for


@pytest.mark.parametrize(("setting", "jobs"), [("auto", 8), (3, 3)])
def test_a_worker_whose_model_failed_to_load_takes_jobs_to_say_so(setting: Any, jobs: int) -> None:
    service = SpeechService(Settings(model_id="/nowhere/no-model", device="cpu", max_concurrency=setting))
    service.load()
    assert jobs_at_once(service) == jobs


def test_the_sdk_splits_an_error_from_what_rides_beside_it(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        worker = worker_of(service)
        good = asyncio.run(run_job(worker.run, JOB))
        bad = asyncio.run(run_job(worker.run, {"id": "job-2", "input": {"script": "Hi.", "seed": -1}}))
    assert "error" not in good
    assert good["output"]["seed"] == 4
    assert bad["error"].startswith("seed")
    assert bad["output"]["field"] == "seed"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dead_engine_stops_the_pod(streaming: bool) -> None:
    dead = HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=512)
    with serving(dead, streaming=streaming) as service:
        worker = worker_of(service)
        dead.close()
        if streaming:
            (item,) = asyncio.run(streamed(worker, JOB))
            assert "engine" in item["output"]["error"]
            assert worker.config["refresh_worker"] is True  # what the SDK reads where there is a generator
        else:
            result = asyncio.run(run_job(worker.run, JOB))
            assert "engine" in result["error"]
            assert result["stopPod"] is True
            assert "refresh_worker" not in worker.config


def test_no_progress_is_under_way_when_the_last_item_or_an_error_leaves(tiny_engine: HiggsAudioEngine) -> None:
    reporters: list[Silent] = []

    def reporter(job: dict[str, Any]) -> Silent:
        reporters.append(Silent(job))
        return reporters[-1]

    async def settled_at_each_item(job_input: dict[str, Any]) -> list[bool]:
        return [reporters[-1].settled async for _ in worker.stream({"id": "job", "input": job_input})]

    with serving(tiny_engine, streaming=True) as service:
        worker = QueueWorker(service, reporter=reporter)
        *parts, last = asyncio.run(settled_at_each_item({**JOB["input"], "stream": True, "response_format": "pcm"}))
        assert (any(parts), last) == (False, True)
        assert asyncio.run(settled_at_each_item({"script": "Hi.", "seed": -1})) == [True]


def test_a_job_that_reaches_a_worker_without_a_model_gets_the_reason() -> None:
    service = SpeechService(Settings(model_id="/nowhere/no-model", device="cpu"))
    service.load()
    result = asyncio.run(run_job(worker_of(service).run, JOB))
    assert result["error"] == service.load_error
    assert "no-model" in result["error"]
    assert "nowhere" not in result["error"]  # where the operator keeps models is nobody's business
    assert result["output"]["code"] == "model_not_loaded"


def test_a_job_without_input_or_with_odd_keys_is_answered(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        worker = worker_of(service)
        for job in ({"id": "a"}, {"id": 5, "input": {}}, {"id": "b", "input": None, "s3Config": "no object"}):
            assert isinstance(asyncio.run(run_job(worker.run, job))["error"], str)


def test_a_job_stopped_while_the_sdk_posts_an_item_frees_its_slot(tiny_engine: HiggsAudioEngine) -> None:
    """Between two items the generator is suspended, so the cancellation is never raised inside it."""
    kept: list[AsyncGenerator[Any, None]] = []  # a reference that keeps the garbage collector out of this

    async def post_for_ever(posting: asyncio.Event) -> None:
        kept.append(worker.stream(LONG))
        async for _ in kept[0]:
            posting.set()
            await asyncio.Event().wait()

    async def stop() -> None:
        posting = asyncio.Event()
        task = asyncio.create_task(post_for_ever(posting))
        await posting.wait()
        await wait_until_async(lambda: service.stats()["active"] == 1)  # between two pieces there is none
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_async(lambda: service.stats()["active"] == 0 and service.stats()["in_flight"] == 0)
        async with aclosing(kept[0]):  # closing what is closed does no harm
            pass

    with serving(tiny_engine, streaming=True) as service:
        worker = worker_of(service)
        asyncio.run(stop())
