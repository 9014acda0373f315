"""The living library with the real engine: voices are made once, stay the same, and outlive requests and workers."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.errors import BusyError, DeviceMemoryError, HiggsError, NoAudioError, RequestError
from higgs_core.speech.voices import DEFAULT_VOICE
from serverless.config.settings import Settings
from serverless.queue.handler import QueueWorker
from serverless.service.service import SpeechService
from serverless.voices.errors import TooManyVoicesError, VoiceExistsError, VoiceFixedError, VoiceNotFoundError
from serverless.voices.library import LivingLibrary
from serverless.voices.making import AT_ONCE
from serverless.voices.shipped import shipped_designs
from tests.helpers.living_voices import Clock, SpeakingEngine, WatchedEngine
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import answer, items
from tests.helpers.simulated_engine import never_sounds, runs_on, speaks_well
from tests.helpers.voices import voice_folder

JOB = {"script": "Hi.", "seed": 1, "max_new_tokens": 20}
TONE = np.sin(np.arange(24_000) / 20).astype(np.float32) / 2


@contextmanager
def serving(engine: Any, **settings: Any) -> Iterator[SpeechService]:
    service = SpeechService(Settings(model_id="tiny", **settings), boot=lambda _: engine)
    service.load()
    assert service.ready, service.load_error
    try:
        yield service
    finally:
        service.close()


def run(service: SpeechService, **job: Any) -> dict[str, Any]:
    return asyncio.run(answer(service, {**JOB, **job}))


@contextmanager
def library(engine: Any, folder: Path | None, clock: Clock | None = None, **settings: Any) -> Iterator[LivingLibrary]:
    living = LivingLibrary(Settings(voices_dir=folder, **settings), clock=clock or Clock(), now=lambda: 1_700_000_000)
    living.open()
    living.attach(engine)
    try:
        yield living
    finally:
        living.close()


def codes_of(living: LivingLibrary, name: str) -> list[list[int]]:
    voice = living.snapshot().find(name)
    codes: list[list[int]] = asyncio.run(living.ready([voice])).codes[voice].tolist()
    return codes


def ids(living: LivingLibrary) -> list[str]:
    return [facts.id for facts in asyncio.run(living.listed())]


class Quiet:
    """A queue's reporter that tells nobody."""

    def __call__(self, progress: object) -> None:
        pass

    async def settle(self) -> None:
        pass


# -- Made once --------------------------------------------------------------------------------------------------------


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


# -- What went wrong with a voice -------------------------------------------------------------------------------------


def test_a_voice_that_stays_faulty_is_used_and_not_kept(tmp_path: Path) -> None:
    engine = SpeakingEngine(behaviours=(runs_on,))
    with library(engine, tmp_path) as living:
        voice = living.snapshot()["fable"]
        ready = asyncio.run(living.ready([voice]))
        assert len(engine.asked) == 3  # generated again, with seeds of its own
        assert len(set(engine.seeds)) == 3
        (warning,) = ready.warnings
        assert warning.startswith("The voice fable did not come out well when it was made")
        assert asyncio.run(living.ready([voice])).warnings == ready.warnings
        assert not list(tmp_path.iterdir())


def test_the_better_generation_is_kept(tmp_path: Path) -> None:
    engine = SpeakingEngine(behaviours=(runs_on, speaks_well))
    with library(engine, tmp_path) as living:
        ready = asyncio.run(living.ready([living.snapshot()["fable"]]))
        assert ready.warnings == ()
        assert len(engine.asked) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["fable.safetensors"]


def test_a_voice_without_a_sound_is_refused() -> None:
    with library(SpeakingEngine(behaviours=(never_sounds,)), None) as living:
        with pytest.raises(NoAudioError, match="The model made no sound for the voice fable"):
            asyncio.run(living.ready([living.snapshot()["fable"]]))
        with pytest.raises(NoAudioError, match="no sound for the voice mine"):
            asyncio.run(living.add_design("mine", "silent", 1))
        assert "mine" not in ids(living)


def test_an_added_voice_that_stays_faulty_is_made_anew_by_the_next_worker(tmp_path: Path) -> None:
    with library(SpeakingEngine(behaviours=(runs_on,)), tmp_path) as living:
        added = asyncio.run(living.add_design("mine", "calm", 5))
        assert added.warnings
        assert added.facts.ready
        codes = codes_of(living, "mine")
    engine = SpeakingEngine()
    with library(engine, tmp_path) as living:
        assert not asyncio.run(living.get("mine")).ready
        assert codes_of(living, "mine") != codes
        assert engine.seeds == [5]
    with library(engine, tmp_path) as living:
        assert asyncio.run(living.get("mine")).ready


# -- A folder that changes --------------------------------------------------------------------------------------------


def test_changes_of_the_folder_are_seen_without_a_restart(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, clock = WatchedEngine(tiny_engine), Clock()
    voice_folder(tmp_path)
    with library(engine, tmp_path, clock) as living:
        before = living.snapshot()
        belinda = codes_of(living, "belinda")
        (tmp_path / "anna.wav").write_bytes((tmp_path / "belinda.wav").read_bytes())
        (tmp_path / "anna.txt").write_text("A tone again.")
        assert "anna" not in living.snapshot()  # looked at a moment ago
        clock.seconds += 2
        assert living.snapshot()["anna"].transcript == "A tone again."
        assert living.snapshot()["belinda"] is before["belinda"]
        assert codes_of(living, "belinda") == belinda
        assert engine.encoded == 1

        (tmp_path / "anna.txt").write_text("Other words.")
        (tmp_path / "config.json").write_text("{")
        clock.seconds += 2
        assert living.snapshot()["anna"].transcript == "Other words."
        assert "belinda" in living.snapshot()  # as it was before its configuration broke
        for _ in range(3):
            clock.seconds += 2
            living.snapshot()
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            "HIGGS_AUDIO_VOICES_DIR: config.json is not JSON. It is left out."
        ]

        (tmp_path / "config.json").write_text('{"alloy": {"description": "calm", "seed": 3}}')
        (tmp_path / "anna.wav").unlink()
        clock.seconds += 2
        assert living.snapshot()["alloy"].design != shipped_designs()["alloy"]
        assert not {"anna", "belinda"} & set(living.snapshot())
        assert asyncio.run(living.get("alloy")).source == "folder"
        os.rename(tmp_path, tmp_path.with_name("gone"))
        clock.seconds += 2
        assert asyncio.run(living.get("alloy")).source == "folder"  # a volume that is away for a moment


def test_a_request_under_way_keeps_the_voice_that_it_named(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    engine, clock = WatchedEngine(tiny_engine), Clock()
    voice_folder(tmp_path)
    with library(engine, tmp_path, clock) as living:
        belinda = living.snapshot()["belinda"]
        (tmp_path / "config.json").unlink()
        clock.seconds += 2
        assert "belinda" not in living.snapshot()
        assert asyncio.run(living.ready([belinda])).codes[belinda].shape == (8, 25)


def test_a_file_of_somebody_else_is_left_alone_and_named_once(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "alloy.safetensors"
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0not a header at all")
    engine, clock = WatchedEngine(tiny_engine), Clock()
    with library(engine, tmp_path, clock) as living:
        codes_of(living, "alloy")
        clock.seconds += 5
        codes_of(living, "alloy")
        with pytest.raises(VoiceExistsError):
            asyncio.run(living.add_design("Alloy", "calm"))
    assert engine.made == 1
    assert damaged.read_bytes().endswith(b"not a header at all")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "The file of the voice alloy is left alone: it is damaged or no voice."
    ]


# -- Other checkpoints ------------------------------------------------------------------------------------------------


def test_another_model_makes_a_design_anew_and_another_codec_encodes_a_clip_anew(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        codes_of(living, "alloy")
        asyncio.run(living.add_clip("anna", TONE, "A tone.", consent="yes"))
        asyncio.run(living.add_design("mine", "calm", 7))
    own = tiny_engine.identity
    for identity, made, encoded in (
        (replace(own, model="other"), 2, 0),
        (replace(own, model="other"), 0, 0),
        (replace(own, model="other", codec="other"), 2, 1),
        (replace(own, model="other", codec="other"), 0, 0),
    ):
        engine = WatchedEngine(tiny_engine, identity=identity)
        with library(engine, tmp_path) as living:
            codes = [codes_of(living, name) for name in ("alloy", "anna", "mine")]
            assert (engine.made, engine.encoded) == (made, encoded)
            facts = asyncio.run(living.get("anna"))
            assert (facts.source, facts.consent, facts.created_at) == ("uploaded", "yes", 1_700_000_000)
            assert codes_of(living, "anna") == codes[1]


def test_two_workers_with_different_models_do_not_drive_each_other(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    clock = Clock()
    ours = WatchedEngine(tiny_engine)
    theirs = WatchedEngine(tiny_engine, identity=replace(tiny_engine.identity, model="other"))
    with library(ours, tmp_path, clock) as one, library(theirs, tmp_path, clock) as other:
        for _ in range(3):
            codes_of(one, "alloy")
            clock.seconds += 2
            codes_of(other, "alloy")
            clock.seconds += 2
    assert (ours.made, theirs.made) == (1, 1)


# -- Two workers on one volume ----------------------------------------------------------------------------------------


def test_what_one_worker_makes_adds_or_removes_the_other_has(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    clock = Clock()
    ours, theirs = WatchedEngine(tiny_engine), WatchedEngine(tiny_engine)
    with library(ours, tmp_path, clock) as one, library(theirs, tmp_path, clock) as other:
        assert codes_of(one, "alloy") == codes_of(other, "alloy")
        assert (ours.made, theirs.made) == (1, 0)  # seen before it began, without waiting for the next look
        asyncio.run(one.add_clip("anna", TONE, "A tone."))
        with pytest.raises(VoiceExistsError):
            asyncio.run(other.add_clip("anna", TONE, "A tone."))
        assert codes_of(one, "anna") == codes_of(other, "anna")
        asyncio.run(other.remove("anna"))
        clock.seconds += 2
        assert "anna" not in ids(one)


def test_of_two_that_add_a_name_at_once_one_wins_and_the_file_is_whole(
    tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as one, library(engine, tmp_path) as other:

        async def both() -> list[Any]:
            adds = [each.add_clip("anna", TONE, "A tone.") for each in (one, other) for _ in range(3)]
            return await asyncio.gather(*adds, return_exceptions=True)

        outcomes = asyncio.run(both())
        assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, VoiceExistsError) for outcome in outcomes) == 5
    with library(engine, tmp_path) as living:
        assert codes_of(living, "anna")
    assert [file.name for file in tmp_path.iterdir()] == ["anna.safetensors"]


# -- A folder that takes no files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_or_read_only_folder_degrades_to_memory_with_one_line(
    fault: int,
    tiny_engine: HiggsAudioEngine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: int) -> None:
        raise OSError(fault, "as told")

    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert codes_of(living, "alloy") == codes_of(living, "alloy")
        codes_of(living, "echo")
        added = asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert added.warnings == ("No writable voice folder is set, so the voice anna lasts until this worker ends.",)
        assert codes_of(living, "anna")
        assert not list(tmp_path.iterdir())
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert lines == [
            f"The voice folder takes no files ({errno.errorcode[fault]}); voices are kept in memory until it does"
        ]
        assert engine.made == 2
    with library(engine, tmp_path) as living:
        codes_of(living, "alloy")
    assert [file.name for file in tmp_path.iterdir()] == ["alloy.safetensors"]


def test_a_library_that_is_read_only_writes_and_removes_nothing(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with library(engine, tmp_path, voices_read_only=True) as living:
        assert codes_of(living, "alloy") == codes_of(living, "alloy")
        asyncio.run(living.add_clip("bob", TONE, "A tone."))
        asyncio.run(living.remove("bob"))
        with pytest.raises(VoiceFixedError, match="anna cannot be deleted, because the voice folder cannot be changed"):
            asyncio.run(living.remove("anna"))
        assert codes_of(living, "anna")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_memory_alone_keeps_can_be_heard_and_removed(tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None, max_saved_voices=1) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        np.testing.assert_allclose(asyncio.run(living.preview("anna")), TONE, atol=1e-4)
        with pytest.raises(TooManyVoicesError, match="at most 1 added voices"):
            asyncio.run(living.add_clip("bob", TONE, "A tone."))
        asyncio.run(living.remove("anna"))
        assert "anna" not in ids(living)
        asyncio.run(living.add_clip("bob", TONE, "A tone."))


def test_a_voice_of_memory_goes_together_with_the_file_of_its_name(
    tiny_engine: HiggsAudioEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "as told")

    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as one, library(engine, tmp_path) as other:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            asyncio.run(one.add_clip("anna", TONE, "A tone."))
        asyncio.run(other.add_clip("anna", TONE, "A tone."))
        asyncio.run(one.remove("anna"))
        assert "anna" not in ids(one)
        assert not list(tmp_path.iterdir())


# -- Added, shown, removed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_voice_is_saved_from_a_results_codes(
    with_folder: bool, tiny_engine: HiggsAudioEngine, tmp_path: Path
) -> None:
    engine = WatchedEngine(tiny_engine)
    with serving(engine, voices_dir=tmp_path if with_folder else None) as service:
        codes = run(service, return_audio_tokens=True)["generated_audio_tokens"]
        added = asyncio.run(service.voices.add_saved("mine", np.array(codes, np.int16), "Hi."))
        assert (added.facts.source, added.facts.ready, added.facts.deletable) == ("saved", True, True)
        assert bool(added.warnings) != with_folder
        assert "error" not in run(service, voice="mine")
        assert "error" not in run(service, references=[{"audio_tokens": codes, "transcript": "Hi."}])
        assert engine.given == [codes, codes]
        preview = asyncio.run(service.voices.preview("mine"))
        assert preview.dtype == np.float32
        assert len(preview) == 960 * len(codes[0])


def test_every_voice_says_where_it_came_from(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        asyncio.run(living.add_clip("night_reader-2", TONE, "A tone.", description="my own"))
        asyncio.run(living.add_design("mine", "calm"))
        listed = asyncio.run(living.listed())
    assert listed[0].source == "model"
    facts = {each.id: each for each in listed}
    assert list(facts) == [DEFAULT_VOICE, "belinda", "mine", "night_reader-2", *shipped_designs()]
    assert (facts["belinda"].source, facts["belinda"].deletable, facts["belinda"].ready) == ("folder", False, False)
    assert (facts["mine"].source, facts["mine"].description, facts["mine"].deletable) == ("designed", "calm", True)
    assert facts["mine"].seed is not None
    assert (facts["night_reader-2"].name, facts["night_reader-2"].description) == ("Night reader 2", "my own")
    assert facts["alloy"].description == shipped_designs()["alloy"].description


def test_each_kind_of_voice_can_be_heard(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    engine = WatchedEngine(tiny_engine)
    with library(engine, tmp_path) as living:
        asyncio.run(living.add_clip("anna", TONE, "A tone."))
        assert len(asyncio.run(living.preview("belinda"))) == 24_000
        np.testing.assert_allclose(asyncio.run(living.preview("anna")), TONE, atol=1e-4)
        first = asyncio.run(living.preview("alloy"))
        assert engine.made == 1  # it was made for this
        (tmp_path / "alloy.safetensors").unlink()
        np.testing.assert_allclose(asyncio.run(living.preview("alloy")), first, atol=1e-3)
        with pytest.raises(VoiceNotFoundError):
            asyncio.run(living.preview("nobody"))


def test_only_added_voices_are_removed(tiny_engine: HiggsAudioEngine, tmp_path: Path) -> None:
    voice_folder(tmp_path)
    with library(WatchedEngine(tiny_engine), tmp_path) as living:
        for name, why in (("alloy", "ships with the worker"), ("belinda", "belongs to the operator's folder")):
            with pytest.raises(VoiceFixedError, match=why):
                asyncio.run(living.remove(name))
        for name in ("nobody", DEFAULT_VOICE, "../belinda", ""):
            with pytest.raises(VoiceNotFoundError):
                asyncio.run(living.remove(name))
        asyncio.run(living.add_design("mine", "calm"))
        asyncio.run(living.remove("mine"))
        with pytest.raises(VoiceNotFoundError):
            asyncio.run(living.remove("mine"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["belinda.wav", "config.json"]


@pytest.mark.parametrize("name", ["", "default", "Default", "a b", "../x", "a" * 65, "größe", "-x", "x.wav", "x\n"])
def test_names_that_are_no_names_are_refused(name: str, tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None) as living, pytest.raises(RequestError) as failure:
        asyncio.run(living.add_design(name, "calm"))
    assert failure.value.field == "name"


@pytest.mark.parametrize(
    ("description", "seed", "field"), [(" ", 1, "description"), ("x" * 1001, 1, "description"), ("calm", -1, "seed")]
)
def test_designs_that_are_none_are_refused(
    description: str, seed: int, field: str, tiny_engine: HiggsAudioEngine
) -> None:
    with library(WatchedEngine(tiny_engine), None) as living, pytest.raises(RequestError) as failure:
        asyncio.run(living.add_design("mine", description, seed))
    assert failure.value.field == field


def test_codes_that_the_codec_does_not_know_are_no_voice(tiny_engine: HiggsAudioEngine) -> None:
    with library(WatchedEngine(tiny_engine), None) as living:
        for codes in (np.zeros((7, 30), np.int16), np.full((8, 30), 2000, np.int16), np.zeros((8, 0), np.int16)):
            with pytest.raises(RequestError):
                asyncio.run(living.add_saved("mine", codes, "Hi."))
        with pytest.raises(RequestError, match=r"audio_tokens lasts 61\.0 s; allowed is"):
            asyncio.run(living.add_saved("mine", np.zeros((8, 61 * 25), np.int16), "Hi."))
        with pytest.raises(RequestError, match=r"audio_sample lasts 0\.0 s; allowed is 0\.3 to 60 s"):
            asyncio.run(living.add_clip("mine", TONE[:100], "Hi."))
        assert "mine" not in ids(living)
