"""The HTTP door: python -m serverless.http_server.

For RunPod's load-balancing endpoints and for local use: /generate (the queue's JSON), OpenAI's /v1 routes, /ping,
/metrics, and the playground at /. The model loads in a thread of its own, so that /ping answers from the first second.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from higgs_core.errors import SettingsError
from serverless import http_errors, http_generate, http_health, http_openai, job_log
from serverless.http_guard import GuardedHeaders, require_key
from serverless.metrics import CONTENT_TYPE, CountedRequests, Metrics
from serverless.settings import Settings, unknown_variables

if TYPE_CHECKING:
    from serverless.service import SpeechService

log = logging.getLogger(__name__)

PLAYGROUND = Path(__file__).parent / "playground"
SPEECH_ROUTES = frozenset({"/generate", http_openai.SPEECH_ROUTE})
DRAIN_SECONDS = 330  # what a load balancer allows one request
IDLE_SECONDS = 75  # longer than common balancers keep a connection, so that none is closed under a request

pages = APIRouter()


def create_app(service: SpeechService, settings: Settings, *, on_fatal: Callable[[], None] | None = None) -> FastAPI:
    """The app around `service`, which starts to load when the app starts.

    on_fatal: called once an engine is past saving; only a new process helps.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.load, name="model-load", daemon=True).start()
        yield

    app = FastAPI(title="Higgs Audio", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = service
    app.state.settings = settings
    app.state.started = int(time.time())
    app.state.on_fatal = on_fatal or (lambda: None)
    app.state.metrics = Metrics(service.stats, lambda: service.ready)
    app.add_middleware(CountedRequests, metrics=app.state.metrics, routes=SPEECH_ROUTES)
    app.add_middleware(GuardedHeaders)
    http_errors.install(app)
    for router in (http_health.router, http_generate.router, http_openai.router, pages):
        app.include_router(router)
    app.mount("/playground", StaticFiles(directory=PLAYGROUND))
    return app


@pages.get("/")
async def playground() -> FileResponse:
    """The page is public; what it calls is not."""
    return FileResponse(PLAYGROUND / "index.html", headers={"Cache-Control": "no-cache"})


@pages.get("/metrics", dependencies=[Depends(require_key)])
async def metrics(request: Request) -> Response:
    """Prometheus' text format. With a key set, the scraper sends it too."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)


def main() -> int:
    """Serve until SIGTERM or SIGINT, then let the running requests end; the exit status is 2 for a wrong setting."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    job_log.configure_logging(settings)
    for sentence in unknown_variables():
        log.warning("%s", sentence)
    return serve(settings)


def serve(settings: Settings) -> int:
    """Run the server on settings.port, and /ping on settings.health_port where that is another one.

    Returns 0 once it was told to stop and has drained; ends the process with 1 when the engine has died.
    """
    from serverless.service import SpeechService

    service = SpeechService(settings)
    fatal = threading.Event()

    def stop() -> None:
        fatal.set()
        server.should_exit = True

    server = uvicorn.Server(uvicorn_config(create_app(service, settings, on_fatal=stop), settings.host, settings.port))
    health = None
    if settings.health_port != settings.port:
        health_app = http_health.health_app(service)
        health = http_health.serve_in_thread(uvicorn_config(health_app, settings.host, settings.health_port))
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains, then raises the signal once more: it must find a handler that lets the rest of this run
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    log.info("Listening on port %d", settings.port)
    server.run()
    if health is not None:
        health.should_exit = True
    service.close()
    if fatal.is_set():  # a thread that hangs in the driver must not keep a dead server alive
        sys.stderr.flush()
        os._exit(1)
    return 0


def uvicorn_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """One set of options for both ports: h11 bounds the headers, and no access log means no query string in a log."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
