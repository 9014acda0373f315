"""Whatever JSON arrives: a parsed job or one RequestError, never anything else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.errors import RequestError
from higgs_core.speech.plan import plan_speech
from higgs_core.text.normalize import normalize
from serverless.config.s3 import S3Config, parse_s3_config
from serverless.config.settings import Settings
from serverless.payload.parse import ParsedJob, parse_job
from serverless.payload.request_fields import (
    AudioPartFields,
    EnvelopeFields,
    MessageFields,
    RequestFields,
    SpeakerFields,
    TextPartFields,
    TurnFields,
)
from tests.helpers.parsing import ANNA_AND_BOB

SETTINGS = Settings(max_script_characters=60, max_message_parts=6)
TABLES = (RequestFields, SpeakerFields, AudioPartFields, TurnFields, MessageFields, TextPartFields, EnvelopeFields)
NAMES = sorted({name for table in TABLES for field in table.fields for name in field.names})

telling_texts = st.sampled_from(
    [
        *("", " ", "0", "1e999", "nan", "-0", "true", "\0", "x" * 70, "\ud800", "[", "SPEAKER0", "[speaker1]"),
        *("user", "audio", "text", "default", "alloy", "anna", "mp3", "word", "/v1/audio/speech"),
        *("data:audio/wav;base64,AAAA", "https://example.com/a.wav"),
        *(
            "e\u0301\u0301",
            "\u202e\u05d0",
            "\u200b",
            "\ufeff",
            "\U0001f469\u200d\U0001f4bb",
            "\udcff",
            "\u0661",
            "\u2028",
        ),
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, 0, 1])
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | telling_texts
)
keys = st.sampled_from(NAMES) | st.text(max_size=5)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
)
jobs = st.dictionaries(keys, json_values, max_size=6)
jobs |= jobs.map(lambda job: {"script": "Hello.", **job})


def outcome(job_input: Any) -> ParsedJob | RequestError:
    try:
        return parse_job(job_input, SETTINGS, voices=ANNA_AND_BOB)
    except RequestError as error:
        return error


@settings(max_examples=400)
@given(json_values | jobs)
def test_any_json_is_a_job_or_one_clear_error(job_input: Any) -> None:
    found = outcome(job_input)
    if isinstance(found, RequestError):
        assert 0 < len(found.message) < 300
        assert "\n" not in found.message
        assert found.field
        json.dumps([found.message, found.field, found.hint])
    else:
        assert found.request.script or found.request.messages
        json.dumps([found.warnings, found.script_echo])


@settings(max_examples=150)
@given(st.sampled_from(NAMES), json_values)
def test_one_odd_field_beside_a_good_script(name: str, value: Any) -> None:
    found = outcome({"script": "Hello.", name: value})
    if isinstance(found, ParsedJob):
        params = found.request.params
        assert 1 <= params.max_new_tokens <= SETTINGS.max_context
        assert 0 <= params.temperature <= 10
        assert 0 < found.output.download_timeout <= SETTINGS.max_download_timeout
        assert len(found.request.reference_sources) <= SETTINGS.max_references


@settings(max_examples=100)
@given(st.sampled_from(["accessId", "accessSecret", "bucketName", "endpointUrl"]), json_values)
def test_any_s3_config_is_a_bucket_or_one_clear_error(key: str, value: Any) -> None:
    good = {"accessId": "i", "accessSecret": "s", "bucketName": "bucket", "endpointUrl": "https://s3.example.com"}
    for given_config in ({**good, key: value}, value):
        found: object
        try:
            found = parse_s3_config(given_config)
        except RequestError as error:
            found = error
        assert found is None or isinstance(found, S3Config | RequestError)


@settings(max_examples=150)
@given(st.text(max_size=60) | st.lists(telling_texts, max_size=6).map("".join))
def test_any_text_is_planned_or_refused_in_one_sentence(script: str) -> None:
    """What the parser takes, the plan takes: no text makes it fail in another way, and no word is lost."""
    found = outcome({"script": script})
    if isinstance(found, ParsedJob):
        try:
            plan = plan_speech(found.request, {}, 8192, len)
        except RequestError:
            return
        spoken = normalize(found.request.script or "")
        assert "".join("".join(piece.text for piece in plan.pieces).split()) == "".join(spoken.split())


def test_nesting_as_deep_as_json_can_be_is_read() -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    for name in NAMES:
        assert outcome({"script": "Hello.", name: deep})
