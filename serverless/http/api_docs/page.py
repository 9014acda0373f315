"""/openapi.json, and /docs: the page that draws it, from the worker's own origin alone."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import swagger_ui_bundle
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException

from serverless.http.api_docs.document import as_text, openapi_document

router = APIRouter()

PAGE = Path(__file__).parent / "page"
SWAGGER_UI = Path(str(swagger_ui_bundle.swagger_ui_path))
_FILES = {
    "start.js": PAGE / "start.js",
    "swagger-ui.css": SWAGGER_UI / "swagger-ui.css",
    "swagger-ui-bundle.js": SWAGGER_UI / "swagger-ui-bundle.js",
}
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""That of the other pages, and the icons that are written into Swagger UI's style."""
_KEPT = {"Cache-Control": "no-cache"}


def install(app: FastAPI) -> None:
    """Serve both for the routes that `app` has when the document is asked for first."""
    app.state.openapi = None
    app.include_router(router)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The document of this worker, with its own limits and defaults. Public, as it holds nothing of a client's."""
    state = request.app.state
    if state.openapi is None:
        state.openapi = as_text(openapi_document(state.settings, request.app.routes)).encode()
    return Response(state.openapi, media_type="application/json", headers=_KEPT)


@router.get("/docs")
async def page() -> FileResponse:
    """The document as a page."""
    return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": _CONTENT_POLICY, **_KEPT})


@router.get("/docs/{name}", include_in_schema=False)
async def file(name: str) -> FileResponse:
    """One of the page's files."""
    if name not in _FILES:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return FileResponse(_FILES[name], headers=_KEPT)
