"""GET /ping, as RunPod asks it: 204 while the model loads, 200 when it serves, 500 with the reason. GET /ready, as
others do, for whom 204 would be a yes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from higgs_core.errors import EngineStoppedError, HiggsError, ModelLoadError

if TYPE_CHECKING:
    from serverless.service.service import SpeechService

router = APIRouter()


@router.head("/ping")
@router.get("/ping")
async def ping(request: Request) -> Response:
    """Needs no key. An engine that failed after it was ready is reported too."""
    service: SpeechService = request.app.state.service
    if (error := why_unhealthy(service)) is not None:
        return JSONResponse({"error": error.message, "code": error.code}, status_code=500)
    if not service.ready:
        return Response(status_code=204)
    return JSONResponse({"status": "ready"})


@router.head("/ready")
@router.get("/ready")
async def ready(request: Request) -> Response:
    """200 when a job would be taken, else 503. Needs no key."""
    service: SpeechService = request.app.state.service
    return Response(status_code=200 if service.ready and why_unhealthy(service) is None else 503)


def why_unhealthy(service: SpeechService) -> HiggsError | None:
    """The error that says why this process will never serve again; None while it does or may."""
    if service.load_error is not None:
        return ModelLoadError(service.load_error)
    return EngineStoppedError(service.why_stopped) if service.why_stopped is not None else None


def health_app(service: SpeechService) -> FastAPI:
    """/ping alone, for a port of its own."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = service
    app.include_router(router)
    return app


def serve_in_thread(config: uvicorn.Config) -> uvicorn.Server:
    """Start a server beside the main one; set its `should_exit` to end it. Signals stay with the main thread."""
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, name="health", daemon=True).start()
    return server
