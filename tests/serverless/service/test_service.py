"""One path from job to response, with the real engine: what comes out, and how every kind of failure leaves it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from typing import Any

import numpy as np
import pytest

from higgs_core import HiggsAudioEngine
from higgs_core.audio import decode_audio
from higgs_core.built_in import BUILT_IN, BuiltIn
from higgs_core.errors import DeviceMemoryError, EngineStoppedError, ModelLoadError
from higgs_core.speech.progress import Progress
from serverless.config.log import PlainFormatter, PlatformFormatter
from serverless.config.settings import Settings
from serverless.delivery.response import Accepted, AudioPart
from serverless.service.boot import WAITING_PIECES_PER_JOB, boot_engine
from serverless.service.service import SpeechService
from tests.helpers.patience import PATIENCE, wait_until_async
from tests.helpers.service import EngineOfSlots, answer, items, serving

JOB = {"script": "A short sentence.", "seed": 4, "max_new_tokens": 60}
LONG = {
    "script": " ".join(f"Piece number {i} comes now." for i in range(60)),
    "chunk_method": "sentence",
    "chunk_max_word_num": 5,
    "max_new_tokens": 400,
    "seed": 1,
}


class Disguised:
    """An engine that takes its checkpoint for another one."""

    def __init__(self, engine: HiggsAudioEngine, built_in: BuiltIn | None) -> None:
        self._engine = engine
        self.built_in = built_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def run(service: SpeechService, job_input: Any, **options: Any) -> dict[str, Any]:
    return asyncio.run(answer(service, job_input, **options))


def test_a_response_has_every_key_of_the_contract_in_plain_json(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        response = run(service, {**JOB, "return_audio_tokens": True, "return_text_tokens": True})
    assert json.loads(json.dumps(response, allow_nan=False)) == response
    assert set(response) == {
        *("audio_base64", "audio_format", "mime_type", "sampling_rate", "generated_text", "usage", "model"),
        *("generated_audio_tokens", "generated_text_tokens", "prompt", "reference_transcripts", "duration_seconds"),
        *("finish_reason", "seed", "timings", "chunks", "warnings"),
    }
    assert set(response["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"}
    timings = response["timings"]
    parts = ("queue", "reference", "prefill", "first_audio", "decode", "codec", "encode")
    assert all(0 <= timings[name] <= timings["total"] for name in parts)
    assert timings["real_time_factor"] == pytest.approx(timings["total"] / response["duration_seconds"], rel=0.01)
    assert (response["model"], response["seed"], response["prompt"]) == ("tiny", 4, "A short sentence.")


def test_the_tokens_returned_are_those_of_the_audio_returned(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        response = run(service, {**JOB, "return_audio_tokens": True, "wav_encoding": "float32"})
    audio = decode_audio(base64.b64decode(response["audio_base64"]), origin="response", min_seconds=0)
    assert len(response["generated_audio_tokens"]) == 8
    assert len(audio) == 960 * len(response["generated_audio_tokens"][0])


def test_a_stream_is_the_response_in_parts(tiny_engine: HiggsAudioEngine) -> None:
    job = {**JOB, "response_format": "pcm"}
    with serving(tiny_engine) as service:
        whole = run(service, job)
        *parts, final = asyncio.run(items(service, {**job, "stream": True}))
    joined = np.frombuffer(b"".join(base64.b64decode(part["audio_base64"]) for part in parts), "<i2")
    expected = np.frombuffer(base64.b64decode(whole["audio_base64"]), "<i2")
    assert len(parts) > 1
    assert [part["index"] for part in parts] == list(range(len(parts)))
    before = [sum(len(base64.b64decode(part["audio_base64"])) for part in parts[:at]) for at in range(len(parts))]
    assert [part["start_seconds"] for part in parts] == [round(size / 2 / 24_000, 4) for size in before]
    np.testing.assert_allclose(joined.astype(int), expected.astype(int), atol=1)
    same = set(whole) - {"audio_base64", "timings", "usage", "warnings"}
    assert {name: final[name] for name in same} == {name: whole[name] for name in same}
    assert final["is_final"]
    assert final["index"] == len(parts)


def test_parts_are_never_larger_than_the_limit(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine, max_stream_chunk_bytes=5_000) as service:
        *parts, _ = asyncio.run(items(service, {**JOB, "stream": True, "response_format": "flac"}))
    sizes = [len(base64.b64decode(part["audio_base64"])) for part in parts]
    assert len(sizes) > 3
    assert max(sizes) <= 5_000


def test_a_stream_that_nobody_asked_for_is_one_item(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        (item,) = asyncio.run(items(service, JOB))
        assert item["audio_base64"] == run(service, JOB)["audio_base64"]


def test_stream_has_no_effect_on_run_and_the_response_says_so(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        response = run(service, {**JOB, "stream": True})
    assert any(warning.startswith("stream was ignored") for warning in response["warnings"])


def test_unknown_fields_are_named_in_the_warnings(tiny_engine: HiggsAudioEngine) -> None:
    with serving(tiny_engine) as service:
        warnings = run(service, {**JOB, "temprature": 0.5})["warnings"]
    assert any("temprature" in warning for warning in warnings)


@pytest.mark.parametrize("built_in", [*BUILT_IN.values(), None])
def test_a_response_of_a_built_in_checkpoint_says_which_one_spoke(
    tiny_engine: HiggsAudioEngine, built_in: BuiltIn | None
) -> None:
    with serving(Disguised(tiny_engine, built_in)) as service:
        assert service.built_in is built_in
        whole = run(service, JOB)
        *_, streamed = asyncio.run(items(service, {**JOB, "stream": True}))
    for response in (whole, streamed):
        notices = [warning for warning in response["warnings"] if "built-in" in warning]
        assert notices == ([built_in.notice] if built_in is not None else [])


def test_progress_is_heard_in_the_event_loop_and_never_falls(tiny_engine: HiggsAudioEngine) -> None:
    heard: list[Progress] = []
    threads = set()

    def listen(progress: Progress) -> None:
        threads.add(threading.current_thread())
        heard.append(progress)

    with serving(tiny_engine) as service:
        run(service, {**LONG, "script": "Piece one comes now. Piece two comes now."}, on_progress=listen)
    assert threads == {threading.main_thread()}
    assert [p.share for p in heard] == sorted(p.share for p in heard)
    assert heard[-1].share == 1


def test_a_job_before_loading_is_told_to_wait() -> None:
    service = SpeechService(Settings(model_id="tiny"))
    response = run(service, JOB)
    assert response["code"] == "model_not_loaded"
    assert not service.ready
    assert service.load_error is None


def test_a_load_failure_is_logged_with_its_remedy_and_told_to_every_job(caplog: pytest.LogCaptureFixture) -> None:
    def boot(_: Settings) -> HiggsAudioEngine:
        raise ModelLoadError("The checkpoint lacks 3 keys.", hint="Download it again.")

    service = SpeechService(Settings(model_id="tiny"), boot=boot)
    with caplog.at_level(logging.INFO):
        service.load()
    assert "The checkpoint lacks 3 keys. Download it again." in caplog.text
    assert service.load_error == "The checkpoint lacks 3 keys."
    assert not service.ready
    for _ in range(2):
        response = run(service, JOB)
        assert response["error"] == "The checkpoint lacks 3 keys."
        assert response["hint"] == "Download it again."
        assert response["code"] == "model_not_loaded"


def test_a_load_that_breaks_unexpectedly_tells_clients_no_details(caplog: pytest.LogCaptureFixture) -> None:
    def boot(_: Settings) -> HiggsAudioEngine:
        raise OSError("/models/private/weights.bin is gone")

    service = SpeechService(Settings(model_id="tiny"), boot=boot)
    service.load()
    assert "weights.bin is gone" in caplog.text
    assert "weights" not in json.dumps(run(service, JOB))


def test_a_defect_is_a_generic_sentence_outside_and_a_place_without_words_in_the_log(
    tiny_engine: HiggsAudioEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise KeyError("A short sentence.")

    with serving(tiny_engine, break_down) as service, caplog.at_level(logging.INFO):
        response = run(service, JOB)
        assert service.ready
    assert response["code"] == "internal_error"
    assert response["error_type"] == "InternalError"
    assert "KeyError" not in json.dumps(response)
    (record,) = (r for r in caplog.records if r.name == "serverless.jobs")
    assert record.exc_info is not None
    for formatter in (PlainFormatter(), PlatformFormatter()):
        line = formatter.format(record)
        assert "KeyError" in line
        assert "in break_down" in line
        assert "short sentence" not in line


def test_a_dead_engine_asks_for_a_new_worker(tiny_engine: HiggsAudioEngine) -> None:
    dead = HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=1, max_context=512)
    with serving(dead) as service:
        assert service.ready
        dead.close()
        for job in (JOB, {**JOB, "stream": True}):
            assert run(service, job)["code"] == "engine_stopped"
        (item,) = asyncio.run(items(service, {**JOB, "stream": True}))
        assert item["code"] == "engine_stopped"
        assert service.must_recycle
        assert not service.ready


@pytest.mark.parametrize("stream", [False, True])
def test_out_of_memory_is_tried_again_when_nobody_else_is_inside(tiny_engine: HiggsAudioEngine, stream: bool) -> None:
    inside: list[int] = []

    def full_once() -> None:
        inside.append(service.stats()["active"])
        if len(inside) == 2:
            raise DeviceMemoryError("The device is out of memory.")

    async def both() -> list[dict[str, Any]]:
        other = asyncio.create_task(answer(service, {**LONG, "script": LONG["script"][:120]}, job_id="other"))
        await wait_until_async(lambda: service.stats()["active"] == 1)
        answers = await items(service, {**JOB, "stream": stream})
        assert other.done()  # it was let out first
        return [*answers, await other]

    with serving(tiny_engine, full_once) as service:
        responses = asyncio.run(both())
    assert all("error" not in response for response in responses)
    assert inside[-1] == 0


def test_out_of_memory_in_a_stream_whose_audio_has_left_is_an_error_and_nothing_is_sent_twice(
    tiny_engine: HiggsAudioEngine,
) -> None:
    pieces = 0

    def full_at_the_second_piece() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            raise DeviceMemoryError("The device is out of memory.")

    job = {**LONG, "script": "Piece one comes now. Piece two comes now.", "response_format": "pcm", "stream": True}
    with serving(tiny_engine, full_at_the_second_piece) as service:
        *parts, error = asyncio.run(items(service, job))
    assert parts
    assert error["code"] == "out_of_memory"
    assert pieces == 2


def test_a_device_that_has_failed_asks_for_a_new_worker_although_the_engine_runs(tiny_engine: HiggsAudioEngine) -> None:
    def failed() -> None:
        raise EngineStoppedError("The device has failed.")

    with serving(tiny_engine, failed) as service:
        assert not service.must_recycle
        assert run(service, JOB)["code"] == "engine_stopped"
        assert service.must_recycle
        assert not service.ready


def test_out_of_memory_alone_fails_that_job_only(tiny_engine: HiggsAudioEngine) -> None:
    attempts = 0

    def full_twice() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise DeviceMemoryError("The device is out of memory.")

    with serving(tiny_engine, full_twice) as service:
        assert run(service, JOB)["code"] == "out_of_memory"
        assert attempts == 2
        assert "audio_base64" in run(service, JOB)


def test_cancelling_a_job_frees_its_slot(tiny_engine: HiggsAudioEngine) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(service.run(LONG, job_id="long"))
        await wait_until_async(lambda: service.stats()["active"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until_async(lambda: service.stats()["active"] == 0)

    with serving(tiny_engine) as service:
        asyncio.run(cancel())
        assert service.stats()["in_flight"] == 0


def test_closing_a_stream_frees_its_slot(tiny_engine: HiggsAudioEngine) -> None:
    async def close() -> None:
        stream = service.stream({**LONG, "stream": True}, job_id="long")
        assert isinstance(await anext(stream), Accepted)
        assert isinstance(await anext(stream), AudioPart)
        assert service.stats()["in_flight"] == 1
        await stream.aclose()
        await wait_until_async(lambda: service.stats()["active"] == 0)

    with serving(tiny_engine) as service:
        asyncio.run(close())
        assert service.stats()["in_flight"] == 0


@pytest.mark.parametrize("setting", ["auto", 64])
def test_more_jobs_than_there_is_room_for_are_told_to_come_again(
    tiny_engine: HiggsAudioEngine, setting: int | str
) -> None:
    async def crowd() -> list[dict[str, Any]]:
        return await asyncio.gather(
            *(answer(service, {**JOB, "seed": seed}, job_id=f"job-{seed}") for seed in (4, 5, 6, 7))
        )

    with serving(EngineOfSlots(tiny_engine, 1), max_concurrency=setting, max_queued_requests=2) as service:
        responses = asyncio.run(crowd())
        assert [response.get("code") for response in responses].count("busy") == 1
        assert run(service, JOB).get("code") != "busy"


def test_every_job_that_is_let_in_has_a_thread(tiny_engine: HiggsAudioEngine) -> None:
    """Each waits in its thread until all have come, which would take for ever if there were fewer threads."""
    everybody = threading.Barrier(20)

    async def crowd() -> list[dict[str, Any]]:
        return await asyncio.gather(
            *(answer(service, {**JOB, "seed": seed}, job_id=f"job-{seed}") for seed in range(everybody.parties))
        )

    def arrive() -> None:
        everybody.wait(PATIENCE)

    engine = EngineOfSlots(tiny_engine, everybody.parties)
    with serving(engine, arrive, max_queued_requests=0) as service:
        assert service.capacity == everybody.parties
        assert [response.get("code") for response in asyncio.run(crowd())] == [None] * everybody.parties


@pytest.mark.parametrize(("setting", "slots"), [("auto", 8), (2, 2)])
def test_the_engines_queue_is_bounded_by_the_jobs_that_may_come(setting: Any, slots: int) -> None:
    settings = Settings(
        model_id="tiny",
        device="cpu",
        max_concurrency=setting,
        max_context=256,
        max_new_tokens=64,
        max_queued_requests=3,
    )
    service = SpeechService(settings)
    assert service.max_concurrency == slots  # "auto" is the usual number until the engine says what it has
    with boot_engine(settings) as engine:
        assert engine.max_batch_size == slots
        assert engine._scheduler._max_waiting == WAITING_PIECES_PER_JOB * (slots + 3)
    service.close()


def test_only_sentences_leave_the_service(tiny_engine: HiggsAudioEngine) -> None:
    bad: list[Any] = [
        17,
        [],
        {"script": 5},
        {"script": "x", "references": [{"text": "no clip"}]},
        {"messages": [{"role": "user"}, 3]},
    ]
    with serving(tiny_engine) as service:
        for job_input in bad:
            response = run(service, job_input)
            assert isinstance(response["error"], str)
            assert "\n" not in response["error"]
            assert set(response) <= {"error", "error_type", "code", "field", "hint"}


@pytest.mark.parametrize("top_k", [None, 1_000, 1])
def test_any_top_k_that_is_allowed_leaves_the_engine_alive(tiny_engine: HiggsAudioEngine, top_k: int | None) -> None:
    # After its audio the model writes text tokens, of which the tiny checkpoint has fewer than codes.
    with serving(tiny_engine) as service:
        for seed in range(3):
            response = run(service, {**JOB, "seed": seed, "temperature": 1, "top_p": None, "top_k": top_k})
            assert "code" not in response
        assert service.ready
