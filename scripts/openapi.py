"""Writes the OpenAPI document of a worker with default settings to standard output: make openapi."""

from __future__ import annotations

import sys

from serverless.config.settings import Settings
from serverless.http.api_docs.document import as_text, openapi_document
from serverless.http.app import create_app
from serverless.service.service import SpeechService


def document() -> str:
    """The text of docs/openapi.json."""
    settings = Settings()
    return as_text(openapi_document(settings, create_app(SpeechService(settings), settings).routes))


if __name__ == "__main__":
    sys.stdout.write(document())
