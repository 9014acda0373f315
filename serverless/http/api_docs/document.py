"""The OpenAPI document of an app: its routes, each with the schemas of what it takes and answers.

OpenAPI 3.0.3, which every version of Swagger UI draws.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from higgs_core.version import VERSION
from serverless.config.settings import Settings
from serverless.http.api_docs.answers import ANSWERS
from serverless.http.api_docs.operations import JSON, OPERATIONS, Operation
from serverless.http.api_docs.request_schema import ref, request_schemas
from serverless.http.api_docs.voices import VOICE_OPERATIONS, VOICES

OPENAPI = "3.0.3"
_ABOUT = (
    "Text-to-speech with Higgs Audio v2. A field that the worker does not know is named in warnings; one of the wrong "
    "type or range is an error that names it. Fields at OpenAI's routes that are not OpenAI's go into a client's "
    "extra_body."
)
_PARAMETER = re.compile(r"\{[^}]*\}")
_KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_HEADERS = {
    "X-Request-Id": {"description": "Stands in the log beside the job.", "schema": {"type": "string"}},
    "X-Warnings": {
        "description": "Fields without effect, and what is wrong with clips and voices: a list in JSON.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
}


def openapi_document(settings: Settings, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of `routes`; ranges and defaults are those of `settings`."""
    found = get_openapi(title="Higgs Audio", version=VERSION, routes=routes, openapi_version=OPENAPI)["paths"]
    paths = {
        path: {method: _operation(path, method, each) for method, each in methods.items()}
        for path, methods in sorted(found.items())
    }
    return {
        "openapi": OPENAPI,
        "info": {"title": "Higgs Audio", "version": VERSION, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**request_schemas(settings), **ANSWERS, **VOICES},
            "securitySchemes": _SCHEMES,
            "headers": _HEADERS,
        },
    }


def as_text(document: dict[str, Any]) -> str:
    """The document as a file, the same for the same routes."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def description_of(method: str, path: str) -> Operation | None:
    """What is known of a route beyond its name."""
    return (OPERATIONS | VOICE_OPERATIONS).get((method, _PARAMETER.sub("{}", path)))


def _operation(path: str, method: str, found: dict[str, Any]) -> dict[str, Any]:
    described = description_of(method, path) or Operation("Server", found["summary"], {200: {}})
    error = ref(described.error or ("OpenAIError" if path.startswith("/v1/") else "Error"))
    answers = {status: dict(content) for status, content in described.answers.items()}
    answers |= {status: {JSON: error} for status in described.errors}
    operation: dict[str, Any] = {
        "tags": [described.tag],
        "summary": described.summary,
        "operationId": re.sub(r"[^a-z0-9]+", "_", f"{method}{path}").strip("_"),
        "responses": {str(status): _answer(status, answers[status], described) for status in sorted(answers)},
        "security": [] if described.key == "never" else _KEYS if described.key == "always" else [{}, *_KEYS],
    }
    if "parameters" in found:
        operation["parameters"] = [
            {**parameter, "schema": {"type": parameter["schema"].get("type", "string")}}
            for parameter in found["parameters"]
        ]
    if described.body:
        content = {media_type: {"schema": schema} for media_type, schema in described.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _answer(status: int, content: dict[str, Any], described: Operation) -> dict[str, Any]:
    names = ["X-Request-Id"]
    names += described.headers if status == HTTPStatus.OK else ()
    names += ["Retry-After"] if status == HTTPStatus.SERVICE_UNAVAILABLE and described.body else []
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    } | ({"content": {media_type: {"schema": schema} for media_type, schema in content.items()}} if content else {})
