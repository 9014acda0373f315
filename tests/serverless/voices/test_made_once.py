"""The living library with the real engine: a voice is made once and stays the same, through every door."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import BusyError, DeviceMemoryError, HiggsError, NoAudioError
from higgs_core.speech.voices import DEFAULT_VOICE
from serverless.config.settings import Settings
from serverless.queue.handler import QueueWorker
from serverless.service.service import SpeechService
from serverless.voices.library import LivingLibrary
from serverless.voices.making import AT_ONCE
from tests.helpers.living_voices import JOB, WatchedEngine, ids, library, run, serving
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import answer, items


class Quiet:
    """A queue's reporter that tells nobody."""

    def __call__(self, progress: object) -> None:
        pass

    async def settle(self) -> None:
        pass


def test_a_designed_voice_is_the_same_in_every_shape_through_every_door_and_after_a_restart(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    shapes: list[dict[str, Any]] = [
        {"voice": "alloy"},
        {"voice": "ALLOY"},
        {"voice": {"id": "alloy"}},
        {"references": [{"voice": "alloy"}]},
        {"speakers": {"SPEAKER0": {"voice": "alloy"}}},
        {"script": None, "messages": [{"role": "user", "content": [{"type": "audio", "voice": "alloy"}, "Hi."]}]},
    ]
    passthrough = {"openai_route": "/v1/audio/speech", "openai_input": {**JOB, "input": "Hi.", "voice": "alloy"}}
    first = WatchedEngine(tiny_engine)
    with serving(first, voices_dir=tmp_path) as service:
        worker = QueueWorker(service, reporter=lambda _: Quiet())
        for shape in shapes:
            assert "error" not in asyncio.run(worker.run({"id": "a", "input": {**JOB, **shape}}))
            assert "error" not in asyncio.run(items(service, {**JOB, **shape, "stream": True}))[-1]
        assert "error" not in asyncio.run(worker.run({"id": "b", "input": passthrough}))
    assert first.made == 1
    assert len(first.given) == 2 * len(shapes) + 1
    assert all(codes == first.given[0] for codes in first.given)

    second = WatchedEngine(tiny_engine)
    with serving(second, voices_dir=tmp_path) as service:
        run(service, voice="alloy")
        facts = asyncio.run(service.voices.get("alloy"))
    assert second.made == 0
    assert second.given == first.given[:1]
    assert (facts.source, facts.ready, facts.deletable) == ("shipped", True, False)


def test_without_a_folder_it_is_made_once_a_worker_and_comes_out_the_same(tiny_engine: HiggsAudioEngine) -> None:
    engine = WatchedEngine(tiny_engine)
    for _ in range(2):
        with serving(engine) as service:
            assert "voice" in run(service, voice="echo")["timings"]
            assert "voice" not in run(service, voice="echo")["timings"]
    assert engine.made == 2
    assert all(codes == engine.given[0] for codes in engine.given)


def test_what_a_voice_costs_is_in_no_requests_usage(tiny_engine: HiggsAudioEngine) -> None:
    with serving(WatchedEngine(tiny_engine)) as service:
        first, second = run(service, voice="coral"), run(service, voice="coral")
    assert first["usage"]["total_tokens"] == second["usage"]["total_tokens"]


def test_twenty_requests_at_once_make_a_voice_once(tiny_engine: HiggsAudioEngine) -> None:
    engine = WatchedEngine(tiny_engine)

    async def together(service: SpeechService) -> list[dict[str, Any]]:
        return await asyncio.gather(*(answer(service, {**JOB, "voice": "nova"}) for _ in range(20)))

    with serving(engine) as service:
        answers = asyncio.run(together(service))
    assert all("error" not in each for each in answers)
    assert engine.made == 1
    assert len(engine.given) == 20


def test_the_first_request_may_leave_without_harm_to_those_that_wait(tiny_engine: HiggsAudioEngine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    engine = WatchedEngine(tiny_engine, before_making=wait)

    async def scene(service: SpeechService) -> dict[str, Any]:
        first = asyncio.create_task(service.run({**JOB, "voice": "sage"}, job_id="first"))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        second = asyncio.create_task(answer(service, {**JOB, "voice": "sage"}))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        return await second

    with serving(engine) as service:
        assert "error" not in asyncio.run(scene(service))
        assert "error" not in run(service, voice="sage")
    assert engine.made == 1


def test_a_failure_is_told_and_not_remembered(tiny_engine: HiggsAudioEngine) -> None:
    failures: list[HiggsError] = [BusyError("Too much at once."), NoAudioError("Model did not return audio tokens.")]

    def fail() -> None:
        if failures:
            raise failures.pop(0)

    engine = WatchedEngine(tiny_engine, before_making=fail)
    with serving(engine) as service:
        assert run(service, voice="verse")["code"] == "busy"
        assert run(service, voice="verse")["error"] == "The model made no sound for the voice verse."
        assert "error" not in run(service, voice="verse")
    assert engine.made == 3


def test_a_voice_whose_client_left_before_its_turn_is_not_made(tiny_engine: HiggsAudioEngine) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait() -> None:
        begun.release()
        assert go_on.wait(PATIENCE)

    engine = WatchedEngine(tiny_engine, before_making=wait)

    async def scene(living: LivingLibrary) -> None:
        first = [asyncio.create_task(living.add_design(f"first-{n}", "A calm voice.", n)) for n in range(AT_ONCE)]
        for _ in first:
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        left = [asyncio.create_task(living.add_design(f"left-{n}", "A calm voice.", n)) for n in range(20)]
        await asyncio.sleep(0)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        go_on.set()
        await asyncio.gather(*first)
        await living.add_design("last", "A calm voice.", 9)

    with library(engine, None) as living:
        asyncio.run(scene(living))
        assert not [name for name in ids(living) if name.startswith("left")]
    assert engine.made == AT_ONCE + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_voice_that_finds_too_little_device_memory_is_made_alone(tiny_engine: HiggsAudioEngine, stream: bool) -> None:
    others: list[int] = []

    def full_once() -> None:
        others.append(service.stats()["active"])
        if len(others) == 1:
            raise DeviceMemoryError("The device is out of memory.")

    engine = WatchedEngine(tiny_engine, before_making=full_once)
    long = {"script": "word " * 30, "seed": 5, "max_new_tokens": 200}

    async def both() -> list[dict[str, Any]]:
        other = asyncio.create_task(answer(service, long))
        await wait_until_async(lambda: service.stats()["active"] == 1)
        return [*await items(service, {**JOB, "voice": "sage", "stream": stream}), await other]

    with serving(engine) as service:
        responses = asyncio.run(both())
    assert [response for response in responses if "error" in response] == []
    assert others == [1, 0]


def test_closing_ends_what_is_being_made(tiny_engine: HiggsAudioEngine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async def scene(service: SpeechService) -> dict[str, Any]:
        waiting = asyncio.create_task(answer(service, {**JOB, "voice": "sage"}))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        service.voices.close()
        go_on.set()
        return await waiting

    with serving(WatchedEngine(tiny_engine, before_making=wait)) as service:
        assert asyncio.run(scene(service))["code"] == "cancelled"


def test_voices_are_made_at_boot(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    engine = WatchedEngine(tiny_engine)
    with serving(engine, voices_dir=tmp_path, voices_at_boot=("ash", "onyx")) as service:
        assert engine.made == 2
        ready = {facts.id for facts in asyncio.run(service.voices.listed()) if facts.ready}
        assert ready == {DEFAULT_VOICE, "ash", "onyx"}
    with serving(engine, voices_dir=tmp_path, voices_at_boot=("all",)):
        assert engine.made == 13


def test_a_wrong_name_at_boot_stops_it_with_one_line(
    tiny_engine: HiggsAudioEngine, caplog: pytest.LogCaptureFixture
) -> None:
    service = SpeechService(Settings(model_id="tiny", voices_at_boot=("aloy",)), boot=lambda _: tiny_engine)
    service.load()
    assert service.load_error == "The worker is configured wrongly."
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line == "HIGGS_AUDIO_VOICES_AT_BOOT names 'aloy', which is no voice; did you mean alloy?"
