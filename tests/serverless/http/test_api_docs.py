"""The OpenAPI document says what is true of requests and answers, and its page needs nothing of another origin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate

from higgs_core.audio import is_available
from higgs_core.errors import RequestError
from scripts.openapi import document as checked_in_text
from serverless.config.settings import Settings
from serverless.http.api_docs.document import description_of
from serverless.http.api_docs.field_descriptions import DESCRIPTIONS
from serverless.http_server import create_app
from serverless.payload.parse import parse_job
from tests.helpers.http_server import Running
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

DOCUMENT: dict[str, Any] = json.loads(checked_in_text())
JOB = DOCUMENT["components"]["schemas"]["JobInput"]["properties"]
RANGES = [name for name, schema in JOB.items() if {"minimum", "maximum"} & set(schema)]
CHOICES = [name for name, schema in JOB.items() if "enum" in schema]


def errors_of(name: str, value: Any, document: dict[str, Any] = DOCUMENT) -> list[str]:
    """What a value has against the component of that name."""
    schema = {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "components": document["components"]}
    return [error.message for error in OAS30Validator(schema).iter_errors(value)]


# -- the document -----------------------------------------------------------------------------------------------------


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


def test_the_document_in_the_repository_is_that_of_the_code() -> None:
    stored = (ROOT / "docs/openapi.json").read_text()
    assert stored == checked_in_text(), "routes or fields have changed: run make openapi"


def test_every_route_is_described() -> None:
    known = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
    assert ("post", "/v1/audio/speech") in known
    assert [route for route in known if description_of(*route) is None] == []


def test_every_field_has_a_sentence_a_schema_and_its_aliases() -> None:
    for table, sentences in DESCRIPTIONS.items():
        assert [field.name for field in table.fields if not sentences.get(field.name)] == []
    assert [name for name, schema in JOB.items() if not set(schema) & {"type", "anyOf", "oneOf"}] == []
    assert JOB["script"]["x-aliases"] == ["prompt", "transcript", "text"]  # its name at OpenAI's route is the fifth
    assert (JOB["temperature"]["default"], JOB["top_k"]["default"]) == (0.3, 50)


def test_the_document_of_a_worker_has_its_limits_and_not_its_system_prompt(server: Running) -> None:
    changed = {"max_script_characters": 77, "system_prompt": "Xylophone", "temperature": 0.7}
    client = TestClient(create_app(server.service, server.service.settings.model_copy(update=changed)))
    answer = client.get("/openapi.json")
    fields = answer.json()["components"]["schemas"]["SpeechRequest"]["properties"]
    assert (fields["input"]["maxLength"], fields["temperature"]["default"]) == (77, 0.7)
    assert "Xylophone" not in answer.text


# -- requests ---------------------------------------------------------------------------------------------------------


def takes(**fields: Any) -> bool:
    try:
        parse_job({"script": "Hello.", **fields}, Settings())
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("name", RANGES)
def test_a_range_is_the_one_that_the_worker_holds(name: str) -> None:
    schema = JOB[name]
    step = 1 if schema["type"] == "integer" else 0.001
    for bound, outside in (("minimum", -step), ("maximum", step)):
        if bound not in schema:
            continue
        edge = schema[bound]
        inside = edge + step if bound == "minimum" and schema.get("exclusiveMinimum") else edge
        assert takes(**{name: inside})
        assert errors_of("JobInput", {"script": "x", name: inside}) == []
        beyond = edge if inside != edge else edge + outside
        off = {"top_k": (0, -1)}.get(name, ())  # they mean null
        assert takes(**{name: beyond}) == (beyond in off)
        assert errors_of("JobInput", {"script": "x", name: beyond})


def test_some_fields_have_a_range() -> None:
    assert {"temperature", "seed", "speed", "retries", "max_new_tokens"} <= set(RANGES)


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_is_taken_and_no_other(name: str) -> None:
    for value in JOB[name]["enum"]:
        if name != "response_format" or is_available(value):
            assert takes(**{name: value})
    assert not takes(**{name: "xylophone"})


@pytest.mark.parametrize("name", [name for name, schema in JOB.items() if schema.get("nullable")])
def test_what_may_be_null_means_off(name: str) -> None:
    assert takes(**{name: None})


BEYOND_THE_SCHEMA = {"flac": "a name in capitals", "sampling": "numbers as texts", "openai": "the queue's passthrough"}
"""Jobs that the worker takes and the schema does not promise."""


@pytest.mark.parametrize("path", sorted((ROOT / "test_inputs").glob("*.json")), ids=lambda path: path.stem)
def test_the_jobs_of_the_repository_fit(path: Any) -> None:
    job = json.loads(path.read_text())
    assert (errors_of("Job", job) == []) == (path.stem not in BEYOND_THE_SCHEMA)


def test_what_other_clients_send_fits() -> None:
    bodies = [
        request["body"]
        for path in (ROOT / "tests/serverless/http/recorded").glob("*.json")
        for request in json.loads(path.read_text())["requests"]
        if request["body"]
    ]
    assert len(bodies) > 5
    for body in bodies:
        assert errors_of("SpeechRequest", json.loads(body)) == []
    assert errors_of("SpeechRequest", {"input": "Hello.", "voice": {"id": "anna"}, "seed": 3}) == []
    for wrong in ({"model": "tts-1"}, {"input": "Hello.", "speed": 9}, {"input": "Hello.", "stream_format": "wav"}):
        assert errors_of("SpeechRequest", wrong)
    assert errors_of("BatchRequest", {"items": [{"input": "One."}], "seed": 1}) == []
    for wrong in ({"items": []}, {"items": [{}] * 33}, {"input": "One."}, {"items": [5]}):
        assert errors_of("BatchRequest", wrong)


# -- answers ----------------------------------------------------------------------------------------------------------


def answered(server: Running) -> Iterator[tuple[str, str, Any]]:
    """(what it is, its component, the answer)"""
    short = {"max_new_tokens": 30, "seed": 1, "response_format": "pcm"}
    codes = {"return_audio_tokens": True, "return_text_tokens": True}
    job = {"script": "Hello.", **short, **codes}
    yield "a whole answer", "Speech", server.generate(job).json()
    *parts, last = [json.loads(line) for line in server.generate({**job, "stream": True}).text.splitlines()]
    yield "a part", "SpeechPart", parts[0]
    yield "the last line", "Speech", last
    yield "an error", "Error", server.generate({**job, "top_p": 7}).json()
    yield "no route", "Error", requests.get(f"{server.url}/nope", timeout=PATIENCE).json()
    for path, name in (("/v1/models", "ModelList"), ("/v1/models/tts-1", "Model"), ("/v1/audio/models", "ModelNames")):
        yield path, name, requests.get(f"{server.url}{path}", timeout=PATIENCE).json()
    voices = f"{server.url}/v1/audio/voices"
    for query, name in (("", "VoiceList"), ("?legacy=true", "VoiceList"), ("/alloy", "Voice")):
        yield f"voices{query}", name, requests.get(f"{voices}{query}", timeout=PATIENCE).json()
    yield "no voice", "OpenAIError", requests.get(f"{voices}/nobody", timeout=PATIENCE).json()
    yield "ready", "Ready", requests.get(f"{server.url}/ping", timeout=PATIENCE).json()
    yield "no model", "OpenAIError", requests.get(f"{server.url}/v1/models/x", timeout=PATIENCE).json()
    speech = {"input": "Hello.", **short, "stream_format": "sse"}
    events = requests.post(f"{server.url}/v1/audio/speech", json=speech, timeout=PATIENCE).text.split("\n\n")
    yield "an event", "SpeechDelta", json.loads(events[0].removeprefix("data: "))
    yield "the last event", "SpeechDone", json.loads(events[-2].removeprefix("data: "))
    batch = {"items": [{"input": "Hello.", **codes}, {"input": ""}], **short}
    yield "a batch", "Batch", requests.post(f"{server.url}/v1/audio/speech/batch", json=batch, timeout=PATIENCE).json()


def test_real_answers_fit_and_have_nothing_that_is_not_described(server: Running) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for what, name, answer in answered(server):
        assert errors_of(name, answer) == [], what
        assert set(answer) <= set(schemas[name]["properties"]), what
        for entry in answer.get("results", ()):
            told = schemas["BatchSuccess" if entry["status"] == "success" else "OpenAIError"]["properties"]
            assert set(entry) <= {*told, "index", "status"}


def test_what_cannot_be_done_with_a_voice_fits(server: Running) -> None:
    voices = f"{server.url}/v1/audio/voices"
    for answer in (
        requests.delete(f"{voices}/nobody", timeout=PATIENCE),
        requests.delete(f"{voices}/alloy", timeout=PATIENCE),
        requests.post(voices, json={"name": "x"}, timeout=PATIENCE),
    ):
        assert answer.status_code >= 400
        assert errors_of("VoiceError", answer.json()) == []


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_takes_nothing_from_elsewhere_and_runs_nothing_inline(server: Running) -> None:
    page = requests.get(f"{server.url}/docs", timeout=PATIENCE)
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "https://" not in page.text
    assert re.findall(r"<script(?![^>]*\bsrc=)", page.text) == []
    for name in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        assert requests.get(f"{server.url}/{name}", timeout=PATIENCE).status_code == 200
    for name in ("swagger-ui.js", "index.html", "..%2fpage.py"):
        assert requests.get(f"{server.url}/docs/{name}", timeout=PATIENCE).status_code == 404


def test_page_and_document_can_be_switched_off_and_ask_for_no_key(server: Running) -> None:
    keyed = {"api_key": Settings(api_key="secret").api_key}
    for docs, status in ((True, 200), (False, 404)):
        settings = server.service.settings.model_copy(update={**keyed, "docs": docs})
        client = TestClient(create_app(server.service, settings))
        assert {client.get(path).status_code for path in ("/docs", "/openapi.json")} == {status}
