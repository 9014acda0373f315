"""OpenAI's speech request, by the queue's passthrough and as the HTTP server hands it on."""

from __future__ import annotations

from typing import Any

import pytest

from higgs_core.errors import RequestError
from higgs_core.speech.voices import VoiceLibrary
from serverless.config.settings import Settings
from serverless.payload.openai import SPEECH_ROUTE, to_job_input
from serverless.payload.parse import ParsedJob, parse_job
from tests.helpers.parsing import ANNA_AND_BOB, library, refusal


def spoken(voices: VoiceLibrary = ANNA_AND_BOB, **body: Any) -> ParsedJob:
    job_input = {"openai_route": "/v1/audio/speech", "openai_input": body}
    return parse_job(job_input, Settings(), voices=voices)


def test_openais_names_reach_our_fields() -> None:
    job = spoken(
        model="tts-1",
        input=" Hi. ",
        voice="anna",
        instructions="A hall.",
        response_format="FLAC",
        speed=2,
    )
    assert job.request.script == "Hi."
    assert [clip.voice and clip.voice.name for clip in job.request.references] == ["anna"]
    assert job.request.scene_prompt == "A hall."
    assert (job.output.response_format, job.output.speed) == ("flac", 2.0)
    assert job.warnings == ()


@pytest.mark.parametrize("blank", [{}, {"response_format": None}, {"response_format": ""}])
def test_the_format_is_openais_default_when_none_is_given(blank: dict[str, Any]) -> None:
    assert spoken(input="Hi.", **blank).output.response_format == "mp3"


def test_a_stock_voice_is_a_voice_of_the_library() -> None:
    assert [
        clip.voice and clip.voice.name
        for clip in spoken(input="Hi.", voice="alloy", voices=library("alloy")).request.references
    ] == ["alloy"]


@pytest.mark.parametrize(
    ("voice", "names"), [({"id": "anna"}, ["anna"]), ({}, []), ({"id": None}, []), ("default", [])]
)
def test_a_voice_may_be_an_object_with_an_id(voice: Any, names: list[str]) -> None:
    assert [clip.voice and clip.voice.name for clip in spoken(input="Hi.", voice=voice).request.references] == names


def test_our_own_names_pass_through() -> None:
    job = spoken(input="Hi.", seed=5, stream=True, references=[{"url": "https://example.com/a"}])
    assert job.request.params.seed == 5
    assert job.output.stream
    assert len(job.request.references) == 1


def test_what_only_the_door_reads_is_dropped_and_anything_else_is_named() -> None:
    job = spoken(input="Hi.", model="gpt-4o-mini-tts", stream_format="sse", store=True)
    assert job.warnings == ("Unknown field 'store' was ignored.",)


@pytest.mark.parametrize("speed", [0.25, 1, 4, "1.5"])
def test_speed_is_passed_on(speed: Any) -> None:
    assert spoken(input="Hi.", speed=speed).output.speed == float(speed)


@pytest.mark.parametrize("speed", [0.24, 4.01, 0, -1, "fast"])
def test_speed_out_of_range_is_refused(speed: Any) -> None:
    error = refusal({"openai_route": SPEECH_ROUTE, "openai_input": {"input": "Hi.", "speed": speed}})
    assert error.message == f"speed is {speed!r}; allowed is 0.25 to 4."


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": " \n"}, {"input": None, "voice": "alloy"}])
def test_a_missing_input_is_named_as_openai_calls_it(body: dict[str, Any]) -> None:
    assert refusal({"openai_route": SPEECH_ROUTE, "openai_input": body}).field == "input"


@pytest.mark.parametrize("value", [5, ["Hi."], "x" * 20_001])
def test_a_wrong_input_is_named_as_openai_calls_it(value: Any) -> None:
    assert refusal({"openai_route": SPEECH_ROUTE, "openai_input": {"input": value}}).field == "input"


@pytest.mark.parametrize("route", ["/v1/audio/speech", "v1/audio/speech", "/v1/audio/speech/"])
def test_the_speech_route_is_known_with_and_without_slashes(route: str) -> None:
    assert to_job_input(route, {"input": "Hi."})["input"] == "Hi."


@pytest.mark.parametrize("route", ["/v1/chat/completions", "", None, 5, ["/v1/audio/speech"], "/v1/audio/speech/x"])
def test_another_route_is_refused(route: Any) -> None:
    with pytest.raises(RequestError) as caught:
        to_job_input(route, {"input": "Hi."})
    assert caught.value.field == "openai_route"
    assert "/v1/audio/speech" in caught.value.message


@pytest.mark.parametrize(
    ("envelope", "field"),
    [
        ({"openai_input": {"input": "Hi."}}, "openai_route"),
        ({"openai_route": SPEECH_ROUTE}, "openai_input"),
        ({"openai_route": SPEECH_ROUTE, "openai_input": "Hi."}, "openai_input"),
        ({"openai_route": SPEECH_ROUTE, "openai_input": ["Hi."]}, "openai_input"),
    ],
)
def test_half_an_envelope_is_refused(envelope: dict[str, Any], field: str) -> None:
    assert refusal(envelope).field == field


def test_what_stands_beside_the_envelope_is_named() -> None:
    job_input = {"openai_route": SPEECH_ROUTE, "openai_input": {"input": "Hi."}, "script": "Ho."}
    job = parse_job(job_input, Settings())
    assert job.request.script == "Hi."
    assert job.warnings == ("Unknown field 'script' was ignored.",)


def test_the_clients_body_is_left_as_it_was() -> None:
    body = {"input": "Hi.", "model": "tts-1", "voice": {"id": "anna"}}
    to_job_input(SPEECH_ROUTE, body)
    assert body == {"input": "Hi.", "model": "tts-1", "voice": {"id": "anna"}}
