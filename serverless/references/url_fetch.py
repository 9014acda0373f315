"""Fetching a URL that a job names: only from where the guard allows, within one deadline and one size."""

from __future__ import annotations

import http.client
import logging
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from runpod.serverless.utils import rp_ssrf
from urllib3.util import parse_url

from serverless.references.bounded_http import TOO_LATE, BoundedAdapter, Deadline
from serverless.references.fetch_guard import FetchGuard, FetchRefused

_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_URL = 8_192
_CHUNK_BYTES = 2**16
_PROTOCOL_BYTES = 2**20  # headers and chunk lines, beside the body
_HEADERS = {"User-Agent": "higgs-audio-serverless", "Accept": "*/*", "Accept-Encoding": "identity"}
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)

# urllib3 writes hosts, paths and query strings, presigned ones among them: at DEBUG for each request, and in warnings.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@dataclass(frozen=True)
class _Target:
    request: requests.PreparedRequest
    url: str
    host: str
    port: int


def fetch(url: str, guard: FetchGuard, deadline: Deadline, *, max_bytes: int, max_redirects: int) -> bytes:
    """The body of one URL, at most `max_bytes`.

    Raises FetchRefused: the address, the answer or the time that it takes is not acceptable.
    """
    target = _target("", url)
    for _ in range(max_redirects + 1):
        location, body = _get(target, guard, deadline, max_bytes)
        if location is None:
            return body
        target = _target(target.url, location)
    raise FetchRefused(f"it redirects more than {max_redirects} times")


def _target(base: str, location: str) -> _Target:
    """What is to be dialled, read by the parser of the library that dials. Raises FetchRefused."""
    if len(location) > _LONGEST_URL or any(sign <= " " or sign in "\x7f\\" for sign in location):
        raise FetchRefused("it is no address: too long, or with spaces, backslashes or control characters")
    try:
        url = urljoin(base, location)
        if "@" in urlsplit(url).netloc:
            raise FetchRefused("it names a user")
        request = requests.Request("GET", url, headers=_HEADERS).prepare()
        dialled = request.url or ""
        split, parsed = urlsplit(dialled), parse_url(dialled)
        host, port = split.hostname, split.port
    except (ValueError, *_FAILURES):
        raise FetchRefused("it is no address") from None
    if split.scheme not in _DEFAULT_PORTS or not host:
        raise FetchRefused("it is not an http or https address")
    # Two readings of one string are how a checked host and a dialled host come apart.
    if (parsed.scheme, (parsed.host or "").strip("[]"), parsed.port) != (split.scheme, host, port):
        raise FetchRefused("it is an ambiguous address")
    return _Target(request, dialled, host, _DEFAULT_PORTS[split.scheme] if port is None else port)


def _get(target: _Target, guard: FetchGuard, deadline: Deadline, max_bytes: int) -> tuple[str | None, bytes]:
    """(where it redirects to, or None; the body). Addresses are tried in turn until one takes the connection."""
    addresses = guard.addresses(target.host, target.port)
    for tried, address in enumerate(addresses):
        adapter = BoundedAdapter(address, deadline, max_bytes + _PROTOCOL_BYTES)
        try:
            response = _send(adapter, target.request, deadline, deadline.remaining() / (len(addresses) - tried))
            if response is not None:
                with response:
                    return _answer(response, deadline, max_bytes)
        finally:
            adapter.close()
    raise FetchRefused("no connection could be made")


def _send(
    adapter: BoundedAdapter, request: requests.PreparedRequest, deadline: Deadline, connect_seconds: float
) -> requests.Response | None:
    """The answer's head, or None when there was no connection. Raises FetchRefused."""
    try:
        # The adapter without a session, which would read and unpack the body of a redirect, use proxies and .netrc.
        answer: requests.Response = adapter.send(
            request, stream=True, timeout=(connect_seconds, deadline.remaining()), verify=True
        )
    except requests.exceptions.SSLError:
        raise FetchRefused("TLS failed, or the certificate is not valid") from None
    except requests.ConnectionError:
        return None
    except requests.Timeout:
        raise FetchRefused(TOO_LATE) from None
    except _FAILURES:
        raise FetchRefused("the answer is not HTTP") from None
    return answer


def _answer(response: requests.Response, deadline: Deadline, max_bytes: int) -> tuple[str | None, bytes]:
    if response.status_code in _REDIRECTS:
        location = response.headers.get("Location")
        if not location:
            raise FetchRefused("it redirects to nowhere")
        return location.encode("latin-1", "replace").decode("utf-8", "replace"), b""
    if response.status_code != 200:
        raise FetchRefused(f"the server answered {response.status_code}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise FetchRefused("the answer is compressed although it was asked not to be")
    declared = response.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise FetchRefused(f"it has more than {max_bytes} bytes")
    try:
        return None, b"".join(rp_ssrf.iter_content_capped(response, _CHUNK_BYTES, max_bytes))
    except rp_ssrf.SSRFError:
        raise FetchRefused(f"it has more than {max_bytes} bytes") from None
    except _FAILURES:
        raise FetchRefused("the transfer broke off" if deadline.seconds_left else TOO_LATE) from None
