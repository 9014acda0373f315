"""An engine that fails for good, threads that are ended, and a service that closes: every job is answered."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from higgs_core import HiggsAudioEngine
from higgs_core.engine import CLOSE_SECONDS
from higgs_core.errors import EngineStoppedError
from serverless.config.settings import Settings
from serverless.payload.parse import parse_job
from serverless.service import job as job_module
from serverless.service import part_stream as part_stream_module
from serverless.service.boot import boot_engine
from serverless.service.part_stream import PartStream
from serverless.service.service import SpeechService
from tests.helpers.http_server import serving_http
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import answer, items, serving

JOB = {"script": "A short sentence.", "seed": 4, "max_new_tokens": 60}
POISONED = "CUDA error: device-side assert triggered"
TOO_FEW = "too few for any audio: the first 40 ms take 9 decode steps"


def run(service: SpeechService, job_input: Any) -> dict[str, Any]:
    return asyncio.run(answer(service, job_input))


@pytest.fixture
def own() -> SpeechService:
    """A service with an engine of its own, which the test may break."""
    service = SpeechService(Settings(model_id="tiny", device="cpu", max_concurrency=2))
    service.load()
    return service


def break_device(service: SpeechService) -> None:
    """From now on every decode step says that the device has failed."""

    def failing(*_: object) -> None:
        raise RuntimeError(POISONED)

    assert service.engine is not None
    service.engine._parts.runner.run = failing  # type: ignore[method-assign]


def test_the_failure_is_told_although_no_job_is_there_to_hear_of_it(own: SpeechService) -> None:
    told = threading.Event()
    own.observe_failure(told.set)
    break_device(own)
    assert own.engine is not None
    with pytest.raises(EngineStoppedError):
        own.engine.generate(parse_sample(), None)
    assert told.wait(PATIENCE)
    assert own.must_recycle
    assert own.why_stopped == "The engine failed in mid-step; the worker must be replaced."
    assert own.close()


def parse_sample() -> Any:
    from higgs_core import ChatMLSample, Message

    return ChatMLSample([Message("user", "Hello.")])


def test_a_failed_device_answers_every_job_and_ping_says_why(own: SpeechService) -> None:
    with serving_http(own.settings, own) as server:
        break_device(own)
        with ThreadPoolExecutor() as pool:
            jobs = [{**JOB, "stream": number % 2 == 0} for number in range(5)]
            answers = list(pool.map(server.generate, jobs))
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["code"] for answer in answers} == {"engine_stopped"}
        ping = requests.get(f"{server.url}/ping", timeout=PATIENCE)
        assert ping.status_code == 500
        assert ping.json() == {
            "error": "The engine failed in mid-step; the worker must be replaced.",
            "code": "engine_stopped",
        }
        assert server.fatal


def test_an_engine_that_fails_in_its_warm_up_is_a_model_that_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from higgs_core.runtime.device_work import DeviceWork

    def failing(_: object) -> int:
        raise RuntimeError(POISONED)

    monkeypatch.setattr(DeviceWork, "warm_up", failing)
    others = set(threading.enumerate())
    service = SpeechService(Settings(model_id="tiny", device="cpu"), boot=boot_engine)
    service.load()
    assert service.load_error == "The engine failed in mid-step; the worker must be replaced."
    assert run(service, JOB)["code"] == "model_not_loaded"
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "higgs-engine"]
    assert service.close()


# -- threads that are ended ----


ENDS = [SystemExit, KeyboardInterrupt, StopIteration, GeneratorExit]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("module", "name"), [(job_module, "speak"), (job_module, "encode_audio")])
def test_what_ends_a_thread_of_a_job_is_that_jobs_error(
    tiny_engine: HiggsAudioEngine,
    module: Any,
    name: str,
    end: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the event loop SystemExit would end the process, and StopIteration would never arrive."""

    def ending(*_: object, **__: object) -> None:
        raise end

    with serving(tiny_engine) as service:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, ending)
            assert run(service, JOB)["code"] == "internal_error"
        assert "audio_base64" in run(service, JOB)
        assert service.ready


@pytest.mark.parametrize("end", [*ENDS, KeyError])
def test_what_ends_the_thread_of_a_stream_is_that_streams_error(
    tiny_engine: HiggsAudioEngine, end: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(*_: object, **__: object) -> None:
        raise end

    with serving(tiny_engine) as service:
        monkeypatch.setattr(part_stream_module, "StreamEncoder", ending)
        (error,) = asyncio.run(items(service, {**JOB, "stream": True}))
        assert error["code"] in ("internal_error", "engine_stopped")


def part_stream(service: SpeechService, threads: ThreadPoolExecutor) -> PartStream:
    parsed = parse_job({**JOB, "stream": True}, service.settings, voices=service.voices.snapshot())
    engine: Any = service.engine
    return PartStream(engine, parsed, {}, threads=threads, max_part_bytes=1000, on_progress=None)


def test_a_stream_that_no_thread_has_begun_ends_when_the_service_closes(tiny_engine: HiggsAudioEngine) -> None:
    busy, go_on = threading.Event(), threading.Event()

    async def story(service: SpeechService, threads: ThreadPoolExecutor) -> None:
        async with part_stream(service, threads) as parts:
            waiting = asyncio.create_task(parts.next_part())
            await wait_until_async(busy.is_set)
            threads.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(EngineStoppedError):
                await asyncio.wait_for(waiting, PATIENCE)

    with serving(tiny_engine) as service, ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: (busy.set(), go_on.wait(PATIENCE)))
        try:
            asyncio.run(story(service, threads))
        finally:
            go_on.set()


def test_a_stream_whose_event_loop_is_gone_ends_its_thread(tiny_engine: HiggsAudioEngine) -> None:
    """A loop that is closed while parts come: the thread has nobody to tell, and must not go on for ever."""
    opened: list[PartStream] = []

    async def open_and_leave(service: SpeechService, threads: ThreadPoolExecutor) -> None:
        opened.append(part_stream(service, threads))
        await opened[0].__aenter__()

    with serving(tiny_engine) as service, ThreadPoolExecutor(1) as threads:
        asyncio.run(open_and_leave(service, threads))
        assert opened[0]._work is not None
        assert opened[0]._work.exception(PATIENCE) is None


# -- too few steps ----


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("steps", [1, 8])
def test_too_few_steps_for_any_audio_are_the_clients_mistake(
    tiny_engine: HiggsAudioEngine, steps: int, stream: bool
) -> None:
    with serving(tiny_engine) as service, serving_http(service.settings, service) as server:
        answer = server.generate({"script": "Hi.", "max_new_tokens": steps, "stream": stream})
        assert answer.status_code == 400
        assert TOO_FEW in answer.json()["error"]
        assert (answer.json()["code"], answer.json()["field"]) == ("invalid_request", "max_new_tokens")
        enough = server.generate({"script": "Hi.", "max_new_tokens": 9, "stream": stream, "trim": False, "seed": 1})
        assert enough.status_code == 200


# -- settings ----


def test_the_limit_of_a_hang_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SpeechService(Settings(model_id="tiny", device="cpu", max_concurrency=1, hang_seconds=77.0))
    service.load()
    try:
        assert service.engine is not None
        assert service.engine._watchdog._limit == 77.0
    finally:
        assert service.close()
    assert Settings(model_id="tiny").engine_config(progress=False).hang_seconds == "auto"
    assert CLOSE_SECONDS > 1
