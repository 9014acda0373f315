"""Who may call, and what every answer tells the browser."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import SecretStr
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serverless.config.types import ANY_ORIGIN
from serverless.http.errors import HttpProblem

_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}


async def require_key(request: Request) -> None:
    """Refuse a request without the configured key: in X-API-Key, else as a bearer. Without a configured key everyone
    may call. RunPod's load balancer asks for its own key as the bearer, so there ours comes in the header of its own.

    Raises HttpProblem (invalid_api_key).
    """
    expected = request.app.state.settings.api_key
    if expected is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if (own := request.headers.get("x-api-key")) is not None:
        scheme, given = "bearer", own
    if scheme.lower() != "bearer" or not is_key(given, expected):
        what = "is wrong" if given else "is missing"
        hint = "Send Authorization: Bearer <key>, or X-API-Key: <key>."
        raise HttpProblem("invalid_api_key", f"The API key {what}.", hint=hint)


async def require_same_site(request: Request) -> None:
    """Refuse a form that another site's page has sent. A browser sends forms anywhere without asking first, unlike
    JSON, and a worker on somebody's own machine has no key that would keep such a page out; one with a key has, for no
    page can add its header. HIGGS_AUDIO_CORS_ORIGINS lets its pages in.

    Raises HttpProblem (cross_site).
    """
    origin, settings = request.headers.get("origin"), request.app.state.settings
    if origin is None or settings.api_key is not None or {ANY_ORIGIN, origin.lower()} & set(settings.cors_origins):
        return
    # What a browser says itself counts: a proxy in front may have changed the host.
    site = request.headers.get("sec-fetch-site")
    same = site == "same-origin" if site is not None else urlsplit(origin).netloc == request.headers.get("host")
    if not same:
        raise HttpProblem(
            "cross_site", "A page of another site cannot send a form here.", hint="Set a key, or use the worker's page."
        )


async def require_key_to_list(request: Request) -> None:
    """As require_key, for the lists of models and voices, which HIGGS_AUDIO_PUBLIC_LISTS opens: some clients ask for
    them without the key that they have.

    Raises HttpProblem (invalid_api_key).
    """
    if not request.app.state.settings.public_lists:
        await require_key(request)


def is_key(given: str, expected: SecretStr) -> bool:
    """Whether it is the configured key; white space around it does not matter."""
    # digests have one length, so that the time taken says nothing about the key's
    return hmac.compare_digest(_digest(given.strip()), _digest(expected.get_secret_value()))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class GuardedHeaders:
    """ASGI middleware: gives each request an id (`scope["state"]["request_id"]`) and each answer its safety headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex  # never the client's: it goes into logs
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("Cache-Control", "no-store")
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_guarded)
