"""Failures as HTTP answers: a status, and the sentence in the shape that the route's clients read.

Under /v1 that is OpenAI's envelope, `{"error": {"message", "type", "param", "code"}}`; everywhere else it is the
queue's flat `{"error", "error_type", "code", "field", "hint"}`. Adding and removing a voice answer the flat one with
`"success": false`, as vllm-omni's clients read it.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from higgs_core.errors import HiggsError
from serverless.delivery.serialise import error_json
from serverless.payload.field_names import loggable

log = logging.getLogger(__name__)

_STATUS = {
    "invalid_request": 400,
    "invalid_reference": 400,
    "prompt_too_long": 400,
    "invalid_api_key": 401,
    "cross_site": 403,
    "voice_not_deletable": 403,
    "not_found": 404,
    "voice_not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "voice_exists": 409,
    "request_too_large": 413,
    "batch_too_large": 413,
    "unsupported_media_type": 415,
    "cancelled": 499,
    "no_audio": 500,
    "delivery_failed": 500,
    "busy": 503,
    "loading": 503,
    "model_not_loaded": 503,
    "engine_stopped": 503,
    "out_of_memory": 503,
    "reader_too_slow": 503,
    "too_many_voices": 507,
}
VOICES_ROUTE = "/v1/audio/voices"
_RETRY_SECONDS = {"busy": 2, "loading": 5}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OPENAI_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}


class HttpProblem(HiggsError):
    """A failure of the HTTP server itself, not of a job. `code` picks the status."""

    def __init__(self, code: str, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, field=field, hint=hint)
        self.code = code  # type: ignore[misc]  # one class for every failure of the server


def status_of(code: str) -> int:
    """The HTTP status of an error code; 500 for one that only this server could explain."""
    return _STATUS.get(code, 500)


def openai_envelope(error: HiggsError) -> dict[str, Any]:
    """OpenAI's shape of an error. The remedy joins the message: OpenAI's clients show nothing else."""
    status = status_of(error.code)
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = " ".join(part for part in (error.message, error.hint) if part)
    return {"error": {"message": message, "type": kind, "param": error.field, "code": error.code}}


def error_response(request: Request, error: HiggsError) -> JSONResponse:
    """The answer to `request`."""
    code, status = error.code, status_of(error.code)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    if code == "request_timeout":
        headers["Connection"] = "close"  # what is still to come of the body is not waited for
    if code in _RETRY_SECONDS:
        headers["Retry-After"] = str(_RETRY_SECONDS[code])
    if request.url.path.startswith(VOICES_ROUTE) and request.method in ("POST", "DELETE"):
        body: dict[str, Any] = {"success": False, **error_json(error)}
    else:
        body = openai_envelope(error) if request.url.path.startswith("/v1/") else error_json(error)
    return JSONResponse(body, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every failure of `app` in these shapes, unexpected ones without a word about their cause."""

    @app.exception_handler(HttpProblem)
    async def _of_the_server(request: Request, error: HttpProblem) -> JSONResponse:
        return _counted(request, error)

    @app.exception_handler(HiggsError)
    async def _of_a_job(request: Request, error: HiggsError) -> JSONResponse:
        if getattr(request.state, "job_begun", False):
            return error_response(request, error)  # counted and logged when the job ended
        return _counted(request, error)

    @app.exception_handler(HTTPException)
    async def _routing(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            if request.method == "OPTIONS":
                return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
            problem = HttpProblem("method_not_allowed", f"This route answers {allowed} only.")
        elif error.status_code == HTTPStatus.NOT_FOUND:
            problem = HttpProblem("not_found", "There is nothing here.", hint="Speech is at POST /v1/audio/speech.")
        else:
            problem = HttpProblem("invalid_request", "The request cannot be read.")
        response = _counted(request, problem)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected failure", exc_info=error, extra={"job_id": request.state.request_id})
        problem = HttpProblem("internal_error", "The server failed in an unexpected way.", hint="Its log says more.")
        return _counted(request, problem)


def _counted(request: Request, error: HiggsError) -> JSONResponse:
    """The answer to what is no job's failure."""
    note_refusal(request, error)
    return error_response(request, error)


def note_refusal(request: Request, error: HiggsError) -> None:
    """Put what is no job's failure in the metrics and, without a word of the client's, in the log."""
    request.app.state.metrics.count_error(error.code)
    status, route = status_of(error.code), request.scope.get("route")
    fields = {
        "status": status,
        "code": error.code,
        "method": request.method if request.method in _METHODS else "?",
        "route": getattr(route, "path", "none"),
        "path_length": len(request.url.path),
    }
    if (field := loggable(error.field)) is not None:
        fields["field"] = field
    words = " ".join(f"{name}={value}" for name, value in fields.items())
    log.info("request refused: %s", words, extra={"job_id": request.state.request_id, "fields": fields})
