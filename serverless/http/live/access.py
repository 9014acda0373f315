"""Who may open a live session: the page that asks, and the key.

A browser sends no headers of ours with a WebSocket, and asks no permission for one of another origin: so the key may
come as a subprotocol or in the first message, and the origin is looked at here. The key never comes in the address,
which proxies write into their logs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

SUBPROTOCOL = "higgs-audio"
_KEY_PREFIX = "bearer."
_PORTS = {"http": 80, "https": 443}


def is_own_origin(headers: Headers, allowed: Collection[str]) -> bool:
    """Whether the page is the server's own or one of an origin that the operator allows; programs send no origin."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin.lower() in allowed:
        return True
    try:
        page = urlsplit(origin)
        port = page.port or _PORTS.get(page.scheme)
        host = urlsplit(f"//{headers.get('host', '')}")
        own_port = host.port or _PORTS.get(page.scheme)
    except ValueError:  # a malformed address
        return False
    return bool(page.hostname) and (page.hostname, port) == (host.hostname, own_port)


def given_key(headers: Headers, subprotocols: Sequence[str]) -> str | None:
    """The key that came with the handshake: X-API-Key, a bearer, or the subprotocol `bearer.KEY`; None for none."""
    if (own := headers.get("x-api-key")) is not None:
        return own
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if bearer and scheme.lower() == "bearer":
        return bearer
    offered = [each.removeprefix(_KEY_PREFIX) for each in subprotocols if each.startswith(_KEY_PREFIX)]
    return offered[0] if offered else None
