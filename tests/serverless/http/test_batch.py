"""POST /v1/audio/speech/batch: entries in order, each with its audio or its error, among the jobs of others."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import weakref
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import openai
import pytest
import requests

from higgs_core import HiggsAudioEngine
from serverless.http.batch import BatchRun, Spoken
from serverless.http.batch_places import BatchPlaces
from serverless.service.service import SpeechService
from tests.helpers.audio import decoded
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.service import serving
from tests.serverless.http.test_traffic import LONG

SHORT = {"max_new_tokens": 24, "response_format": "wav"}


def ask(server: Running, body: Any, **options: Any) -> requests.Response:
    return requests.post(f"{server.url}/v1/audio/speech/batch", json=body, timeout=PATIENCE, **options)


def spoken(server: Running, body: Any) -> dict[str, Any]:
    answer = ask(server, body)
    assert answer.status_code == 200
    return cast("dict[str, Any]", answer.json())


def test_each_item_is_the_speech_of_a_request_of_its_own(server: Running) -> None:
    words = ["One boat.", "Two boats and a bridge.", "Three."]
    items = [{"input": text, "seed": seed} for seed, text in enumerate(words)]
    answer = spoken(server, {"items": items, **SHORT, "model": "tts-1-1106", "voice": "belinda"})
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (3, 3, 0)
    assert answer["id"]
    assert [entry["index"] for entry in answer["results"]] == [0, 1, 2]
    for item, entry in zip(items, answer["results"], strict=True):
        alone = server.generate({"script": item["input"], "seed": item["seed"], "voice": "belinda", **SHORT}).json()
        assert (entry["status"], entry["media_type"]) == ("success", "audio/wav")
        assert len(decoded(base64.b64decode(entry["audio_data"]), "wav")) == round(alone["duration_seconds"] * 24_000)
        assert (entry["seed"], entry["duration_seconds"]) == (item["seed"], alone["duration_seconds"])
        assert entry["usage"]["output_tokens"] == alone["usage"]["completion_tokens"]
        assert [chunk["text"] for chunk in entry["chunks"]] == [item["input"]]


def test_the_fields_of_an_item_go_before_those_of_the_batch(server: Running) -> None:
    items = [
        {"input": "One."},
        {"input": "Two.", "response_format": "pcm", "speed": None},
        {"voice": {"id": "belinda"}},
    ]
    answer = spoken(server, {"items": items, "input": "Three.", "max_new_tokens": 24, "return_audio_tokens": True})
    assert [entry["media_type"] for entry in answer["results"]] == ["audio/mpeg", "audio/pcm", "audio/mpeg"]
    assert answer["results"][2]["chunks"][0]["text"] == "Three."
    assert all(len(entry["generated_audio_tokens"]) == 8 for entry in answer["results"])


def test_an_item_that_fails_has_openais_error_and_the_others_their_audio(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = [
        5,
        {"input": " "},
        {"input": "Xylophone", "temperature": 99},
        {"input": "Xylophone", "model": "whisper-1"},
        {"input": "Xylophone", "voice": "nobody"},
    ]
    with caplog.at_level(logging.INFO):
        answer = spoken(server, {"items": [{"input": "Fine."}, *wrong], **SHORT})
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (6, 1, 5)
    assert "audio_data" in answer["results"][0]
    errors = [entry["error"] for entry in answer["results"][1:]]
    assert [error["param"] for error in errors] == ["items[1]", "input", "temperature", "model", "voice"]
    assert {tuple(error) for error in errors} == {("message", "type", "param", "code")}
    assert errors[3]["code"] == "model_not_found"
    assert {entry["status"] for entry in answer["results"][1:]} == {"error"}
    refused = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(refused) == len(wrong)
    assert "Xylophone" not in caplog.text


@pytest.mark.parametrize("items", [None, [], {}, "Hello.", [{"input": "Hello."}] * 33])
def test_what_is_no_list_of_items_is_refused_as_a_whole(server: Running, items: Any) -> None:
    answer = ask(server, {"items": items, "input": "Hello."})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "items"


def test_openais_client_can_ask_for_it(server: Running) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = client.post("/audio/speech/batch", cast_to=object, body={"items": [{"input": "Hello."}], **SHORT})
    assert cast("dict[str, Any]", answer)["succeeded"] == 1


def test_a_batch_waits_where_single_requests_would_be_refused(serve: Any) -> None:
    server = serve(slots=2, max_queued_requests=0)
    most: list[int] = []
    server.service.observe_jobs(lambda _: most.append(server.service.in_flight + 1))
    answer = spoken(server, {"items": [{"input": f"Number {n}."} for n in range(12)], **SHORT})
    assert (answer["succeeded"], answer["failed"]) == (12, 0)
    assert len(most) == 12
    assert max(most) <= 2


def test_a_batch_leaves_a_slot_for_others_and_ends_with_its_client(serve: Any) -> None:
    server = serve(slots=4)
    items = [{"input": LONG["script"], "chunk_method": "word", "max_new_tokens": 8_000, "seed": 5}] * 8
    with ask(server, {"items": items}, stream=True):
        wait_until(lambda: server.service.stats()["in_flight"] == 3)
        assert server.generate({"script": "Hello.", **SHORT}).status_code == 200
        assert server.service.stats()["in_flight"] == 3
    wait_until(server.idle)
    assert spoken(server, {"items": [{"input": "Again."}], **SHORT})["succeeded"] == 1


def test_the_audio_of_a_batch_is_bounded(serve: Any) -> None:
    server = serve(max_batch_bytes=60_000)
    items = [{"input": "word " * 40, "max_new_tokens": 60, "response_format": "pcm"}] * 4
    answer = spoken(server, {"items": items, "seed": 1})
    sizes = [len(base64.b64decode(entry.get("audio_data", ""))) for entry in answer["results"]]
    codes = {entry["error"]["code"] for entry in answer["results"] if entry["status"] == "error"}
    assert codes == {"batch_too_large"}
    assert sum(sizes) <= 60_000
    wait_until(server.idle)
    assert server.service.unread.total == 0


def test_audio_that_is_too_much_for_all_readers_costs_the_batch_its_entries(serve: Any) -> None:
    server = serve(max_unread_bytes=5_000)
    answer = spoken(server, {"items": [{"input": "word " * 20, "seed": 1}] * 3, "response_format": "pcm"})
    assert {entry["error"]["code"] for entry in answer["results"]} == {"reader_too_slow"}
    wait_until(server.idle)
    assert server.service.unread.total == 0


def run_of(service: SpeechService, *items: Any) -> BatchRun:
    """A batch of a request that came to no server."""
    app = SimpleNamespace(
        state=SimpleNamespace(service=service, settings=service.settings, batch_places=BatchPlaces(service))
    )
    request = SimpleNamespace(app=app, state=SimpleNamespace(request_id="one"))
    return BatchRun(cast(Any, request), {"items": items, "response_format": "pcm", "max_new_tokens": 24}, items)


def test_a_batch_whose_client_left_before_its_answer_began_is_forgotten(tiny_engine: HiggsAudioEngine) -> None:
    async def main(service: SpeechService) -> weakref.ref[BatchRun]:
        run = run_of(service, {"input": "One."})
        await run.entries().aclose()
        return weakref.ref(run)

    with serving(tiny_engine) as service:
        forgotten = asyncio.run(main(service))
        gc.collect()
        assert forgotten() is None


def test_audio_that_has_left_is_kept_no_longer(tiny_engine: HiggsAudioEngine) -> None:
    async def main(service: SpeechService) -> None:
        run = run_of(service, *({"input": text} for text in ("One boat.", "Two boats.", "Three boats.")))
        before: list[weakref.ref[Any]] = []
        async with aclosing(run.entries()) as entries:
            async for entry in entries:
                assert isinstance(entry, Spoken)
                assert [each() for each in before] == [None] * len(before)
                before.append(weakref.ref(entry))
                del entry

    with serving(tiny_engine) as service:
        asyncio.run(main(service))


class Counted:
    """What places ask of a service."""

    max_concurrency, capacity = 8, 10

    def __init__(self) -> None:
        self.in_flight = 0

    def observe_jobs(self, observer: object) -> None:
        pass


def test_one_slot_in_four_is_left_to_others_and_the_queue_is_open_to_a_batch_without_a_job() -> None:
    service = Counted()
    places = BatchPlaces(cast(SpeechService, service))
    assert places.free(1)
    service.in_flight = 5
    assert places.free(1)
    service.in_flight = 6
    assert not places.free(1)
    assert places.free(0)
    service.in_flight = 10
    assert not places.free(0)


def test_places_are_given_in_order_and_come_back_when_an_item_ends_without_a_job() -> None:
    async def main() -> None:
        service = Counted()
        service.in_flight = 5
        places = BatchPlaces(cast(SpeechService, service))
        share, order, go_on = places.share(), list[int](), asyncio.Event()

        async def item(number: int) -> None:
            async with share.place():
                order.append(number)
                await go_on.wait()

        tasks = [asyncio.create_task(item(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert order == [0]  # it counts as starting, so that the next one waits
        go_on.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]
        assert places.free(1)

    asyncio.run(main())


def test_entries_come_as_they_are_ready(server: Running) -> None:
    items = [{"input": "First.", **SHORT}, {**LONG, "input": LONG["script"]}]
    with ask(server, {"items": items}, stream=True) as answer:
        received, pieces = b"", answer.iter_content(None)  # dropping it would hang up
        for piece in pieces:
            received += piece
            if received.endswith(b'"}'):
                break
        assert server.service.stats()["in_flight"] == 1
        first = json.loads(received.split(b'"results": [', 1)[1])
        assert first["status"] == "success"
    wait_until(server.idle)
