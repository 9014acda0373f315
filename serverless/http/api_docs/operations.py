"""Every route with what it takes and answers, for the OpenAPI document. A parameter of a path is {}."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from higgs_core.audio import FORMATS
from serverless.http.api_docs.answers import TEXT
from serverless.http.api_docs.request_schema import ref
from serverless.payload.batch import BATCH_ROUTE
from serverless.payload.openai import SPEECH_ROUTE
from serverless.payload.readers.json_schema import Schema

Content = Mapping[str, Schema]
"""Schema by media type."""
BINARY: Schema = {"type": "string", "format": "binary"}
JSON = "application/json"
ASKED = (400, 401, 408, 413, 415, 500, 503)
"""What may answer a request with a body instead."""


@dataclass(frozen=True)
class Operation:
    """One method of one route. answers: by status. errors: statuses whose body is the route's shape of an error.

    error: the component of its errors, where it is not the one of all routes around it.
    key: whether it asks for the key; "lists" unless HIGGS_AUDIO_PUBLIC_LISTS is set.
    """

    tag: str
    summary: str
    answers: Mapping[int, Content]
    body: Content = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    key: Literal["always", "lists", "never"] = "always"
    headers: tuple[str, ...] = ()
    error: str | None = None


def of(name: str, media_type: str = JSON) -> Content:
    return {media_type: ref(name)}


_AUDIO: Content = {
    **{each.mime_type: BINARY for each in FORMATS.values()},
    "text/event-stream": {"oneOf": [ref("SpeechDelta"), ref("SpeechDone"), ref("OpenAIError")]},
}
_PROBE = "Whether it serves"

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", SPEECH_ROUTE): Operation(
        "OpenAI",
        "Speak a text; the bytes or the events come while it is generated",
        {200: _AUDIO},
        of("SpeechRequest"),
        (*ASKED, 404),
        headers=("X-Warnings",),
    ),
    ("post", BATCH_ROUTE): Operation("OpenAI", "Speak several texts", {200: of("Batch")}, of("BatchRequest"), ASKED),
    ("get", "/v1/models"): Operation("OpenAI", "The model", {200: of("ModelList")}, errors=(401,), key="lists"),
    ("get", "/v1/models/{}"): Operation(
        "OpenAI", "The model by a name", {200: of("Model")}, errors=(401, 404), key="lists"
    ),
    ("get", "/v1/audio/models"): Operation(
        "OpenAI", "Names of the model", {200: of("ModelNames")}, errors=(401,), key="lists"
    ),
    ("post", "/generate"): Operation(
        "Jobs",
        "Run a job of RunPod's queue; with stream, a line of JSON for each part",
        {
            200: {
                JSON: ref("Speech"),
                "application/x-ndjson": {"oneOf": [ref("SpeechPart"), ref("Speech"), ref("Error")]},
            }
        },
        of("Job"),
        ASKED,
    ),
    ("get", "/ping"): Operation(
        "Server",
        "As RunPod asks it: 204 while the model loads",
        {200: of("Ready"), 204: {}, 500: of("Unhealthy")},
        key="never",
    ),
    ("head", "/ping"): Operation("Server", _PROBE, {200: {}, 204: {}, 500: {}}, key="never"),
    ("get", "/ready"): Operation("Server", "Whether a job would be taken", {200: {}, 503: {}}, key="never"),
    ("head", "/ready"): Operation("Server", _PROBE, {200: {}, 503: {}}, key="never"),
    ("get", "/metrics"): Operation("Server", "Metrics for Prometheus", {200: {"text/plain": TEXT}}, errors=(401,)),
    ("get", "/"): Operation("Server", "The playground", {200: {"text/html": TEXT}}, key="never"),
    ("head", "/"): Operation("Server", _PROBE, {200: {}}, key="never"),
    ("get", "/docs"): Operation("Server", "This document as a page", {200: {"text/html": TEXT}}, key="never"),
    ("get", "/openapi.json"): Operation("Server", "This document", {200: {JSON: {"type": "object"}}}, key="never"),
}
