"""S3 stores on loopback that do as a test says, and a check of signatures that shares no code with the signer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import SecretStr

from serverless.config.s3 import S3Config
from serverless.delivery.s3 import Bucket, Upload
from serverless.network.fetch_guard import FetchGuard
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.patience import PATIENCE

SECRET = "very-secret"


def config(endpoint: str | None, bucket: str = "speech", region: str | None = None) -> S3Config:
    return S3Config(bucket, SecretStr("key-id"), SecretStr(SECRET), endpoint, region)


async def no_pause(seconds: float) -> None:
    """Between two attempts."""


def bucket(endpoint: str, name: str = "speech", *, guard: FetchGuard = LOOPBACK, **options: Any) -> Bucket:
    """A bucket that tries again at once, and has as long as a test waits."""
    given = {"prefix": "", "url_ttl_seconds": 60, "timeout_seconds": PATIENCE, "pause": no_pause, **options}
    return Bucket(config(endpoint, name), guard=guard, **given)


def put(bucket: Bucket, data: bytes = b"RIFF....", name: str = "job-1.wav") -> Upload:
    return asyncio.run(bucket.upload(data, name=name, content_type="audio/wav"))


def read_body(connection: Connection) -> bytes:
    """The body of a request, which is asked for first if its sender waits for that."""
    if connection.headers.get("expect") == "100-continue":
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = connection.head.partition("\r\n\r\n")[2].encode("latin-1")
    while len(body) < int(connection.headers.get("content-length", 0)):
        piece = connection.sock.recv(2**16)
        if not piece:
            raise OSError
        body += piece
    return body


def refusal(status: str, code: str, **headers: str) -> Callable[[Connection], None]:
    """A store that answers each PUT with this status and error code."""

    def script(connection: Connection) -> None:
        read_body(connection)
        text = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>very-secret words</Message></Error>'
        connection.answer(text.encode(), status, **headers)

    return script


@contextmanager
def keeping(stored: dict[str, bytes]) -> Iterator[Server]:
    """A store that keeps what is put, by its path."""

    def script(connection: Connection) -> None:
        stored[connection.path] = read_body(connection)
        connection.answer(b"")

    with Server(script) as server:
        yield server


def signature_of_put(connection: Connection, secret: str = SECRET) -> tuple[str, str]:
    """(The signature that a request carries, the one that it must carry.)

    After https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    given = dict(item.strip().split("=", 1) for item in connection.headers["authorization"].split(" ", 1)[1].split(","))
    path, _, query = connection.path.partition("?")
    signed = given["SignedHeaders"].split(";")
    names = {name: " ".join(connection.headers[name].split()) for name in signed}
    scope = given["Credential"].split("/", 1)[1]
    payload = connection.headers["x-amz-content-sha256"]
    expected = _signature("PUT", path, query, names, payload, connection.headers["x-amz-date"], scope, secret)
    return given["Signature"], expected


def signature_of_link(url: str, secret: str = SECRET) -> tuple[str, str]:
    """The same for a link that anybody may fetch.

    After https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    given = query.pop("X-Amz-Signature")
    pairs = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    headers = {"host": parts.netloc}
    return given, _signature("GET", parts.path, pairs, headers, "UNSIGNED-PAYLOAD", query["X-Amz-Date"], scope, secret)


def _signature(
    method: str, path: str, query: str, headers: Mapping[str, str], payload: str, date: str, scope: str, secret: str
) -> str:
    lines = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    request = "\n".join((method, path, query, lines, ";".join(sorted(headers)), payload))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()))
    return hmac.digest(key, text.encode(), "sha256").hex()
