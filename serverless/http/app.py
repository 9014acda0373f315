"""The HTTP app: /generate (the queue's JSON), OpenAI's /v1 routes, /ping, /metrics, and the playground at /.

The model loads in a thread of its own, so that /ping answers from the first second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from higgs_core.version import VERSION
from serverless.http import batch, errors, generate, health, models, openai, voices
from serverless.http.api_docs import page as api_docs
from serverless.http.batch_places import BatchPlaces
from serverless.http.body import HeldBodies, JsonBodies
from serverless.http.connections import RESERVED, connection_count
from serverless.http.guard import GuardedHeaders, require_key
from serverless.http.jobs import end_if_dead
from serverless.http.live import routes as live
from serverless.http.metrics import CONTENT_TYPE, CountedRequests, Metrics
from serverless.payload.batch import BATCH_ROUTE
from serverless.payload.openai import SPEECH_ROUTE

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.service.service import SpeechService

PLAYGROUND = Path(__file__).parent / "playground"
EXPOSED_HEADERS = ("X-Request-Id", "X-Warnings", "Retry-After")
"""What a page of an allowed origin may read of an answer's headers."""
SPEECH_ROUTES = frozenset({"/generate", SPEECH_ROUTE, BATCH_ROUTE})

pages = APIRouter()


def create_app(service: SpeechService, settings: Settings, *, on_fatal: Callable[[], None] | None = None) -> FastAPI:
    """The app around `service`, which starts to load when the app starts.

    on_fatal: called once the engine has failed; only a new process helps.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.load, name="model-load", daemon=True).start()
        yield
        app.state.bodies.close()

    app = FastAPI(
        title="Higgs Audio", version=VERSION, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.state.service = service
    app.state.settings = settings
    app.state.started = int(time.time())
    app.state.bodies = JsonBodies(settings)
    app.state.batch_places = BatchPlaces(service)
    app.state.max_jobs = connection_count(settings.max_connections) - RESERVED
    app.state.on_fatal = on_fatal or (lambda: None)
    app.state.metrics = Metrics(service.stats, lambda: service.ready)
    service.observe_jobs(app.state.metrics.observe_job)
    service.observe_jobs(lambda _: end_if_dead(app))
    app.add_middleware(CountedRequests, metrics=app.state.metrics, routes=SPEECH_ROUTES)
    app.add_middleware(HeldBodies, budget=app.state.bodies.budget)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # OpenAI's client for browsers sends a dozen of its own
            allow_credentials=False,  # the key is a header; there are no cookies
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(GuardedHeaders)
    errors.install(app)
    routers = (
        health.router,
        generate.router,
        models.router,
        openai.router,
        batch.router,
        voices.router,
        live.router,
        pages,
    )
    for router in routers:
        app.include_router(router)
    if settings.docs:
        api_docs.install(app)
    app.mount("/playground", StaticFiles(directory=PLAYGROUND))
    return app


@pages.head("/")
@pages.get("/")
async def playground() -> FileResponse:
    """The page is public; what it calls is not."""
    return FileResponse(PLAYGROUND / "index.html", headers={"Cache-Control": "no-cache"})


@pages.get("/metrics", dependencies=[Depends(require_key)])
async def metrics(request: Request) -> Response:
    """Prometheus' text format. With a key set, the scraper sends it too."""
    return Response(request.app.state.metrics.exposition(), media_type=CONTENT_TYPE)
