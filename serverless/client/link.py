"""HTTP to an endpoint that may send anything: each answer has a deadline and a largest size, and is JSON or an error.

No redirect is followed, nothing is decompressed, no proxy and no ~/.netrc is read.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from serverless.client.errors import ClientError, PassingError, StoppingError, printable
from serverless.network.bounded_connector import BoundedConnector

RUNPOD_KEY = "RUNPOD_API_KEY"
OWN_KEY = "HIGGS_AUDIO_API_KEY"
"""The variables with the keys."""
CONNECT_SECONDS = 10
ANSWER_SECONDS = 120.0  # for a whole answer
LINE_SECONDS = 600.0  # for each line of a stream
STREAM_SECONDS = 3600.0  # for a whole stream
MAX_ANSWER_BYTES = 32_000_000  # of an answer, and of a line; the platform's own limit is 30 MB
MAX_STREAM_BYTES = 400_000_000
MAX_LINES = 100_000  # of a stream, empty ones among them
ATTEMPTS = 6  # for what is only read
WAIT_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # between them
MAX_RETRY_AFTER_SECONDS = 30.0
_TRY_AGAIN = {429, 502, 503, 504}
_NO_ROOM = {429, 503}
_KEY = f"The key comes from {RUNPOD_KEY} for RunPod, from {OWN_KEY} for a server of your own."
_PLACE = "Is the address, or the id of the endpoint, right?"
_REMEDIES = {401: _KEY, 403: _KEY, 404: _PLACE, 405: _PLACE}  # for what no other job would get past
_MAY_PASS = {408, 425}  # and every status from 500 on
_CHUNK_BYTES = 2**16

Json = dict[str, Any]
_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)  # TimeoutError is an OSError
_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


@dataclass(frozen=True)
class Answer:
    """status, headers, and the body with at most MAX_ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """The seconds that the server asks for, at most MAX_RETRY_AFTER_SECONDS."""
        said = self.headers.get("Retry-After", "").strip()[:9]
        return min(float(said), MAX_RETRY_AFTER_SECONDS) if said.isascii() and said.isdecimal() else None

    def json(self) -> Json:
        """Raises ClientError unless the body is a JSON object."""
        body = parsed(self.body)
        if not isinstance(body, dict):
            raise ClientError("The endpoint's answer is not a JSON object; is the address right?")
        return body

    @property
    def sentence(self) -> str:
        """The server's own words where it said any."""
        body = parsed(self.body)
        error, hint = (body.get("error"), body.get("hint")) if isinstance(body, dict) else (None, None)
        words = error.get("message") if isinstance(error, dict) else error
        said = " ".join(text for text in (printable(words), printable(hint)) if text)
        return said or f"The endpoint answered with status {self.status}."

    @property
    def failure(self) -> ClientError:
        """An answer that is an error, as an exception: a PassingError where another attempt may succeed, a
        StoppingError where the key or the address is wrong."""
        if self.status in _NO_ROOM:
            return PassingError(self.sentence, busy=True, retry_after=self.retry_after)
        if self.status >= 500 or self.status in _MAY_PASS:
            return PassingError(self.sentence, retry_after=self.retry_after)
        if remedy := _REMEDIES.get(self.status):
            return StoppingError(f"{self.sentence} {remedy}")
        return ClientError(self.sentence)


class Link:
    """Use as an async context manager. key: sent as the bearer key with every request."""

    def __init__(self, key: str | None) -> None:
        self._headers = {"User-Agent": "higgs-audio-serverless", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    async def __aenter__(self) -> Self:
        self._connector = BoundedConnector()
        self._http = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def post(self, url: str, body: Json) -> Answer:
        """Sent once. Raises ClientError."""
        return await self._asked("POST", url, body)

    async def get(self, url: str) -> Answer:
        """Asked again while the network or a gateway fails. Raises ClientError."""
        for wait in WAIT_SECONDS[: ATTEMPTS - 1]:
            try:
                answer = await self._asked("GET", url)
            except _Unreachable:
                await asyncio.sleep(wait)
                continue
            if answer.status not in _TRY_AGAIN:
                return answer
            await asyncio.sleep(wait if answer.retry_after is None else answer.retry_after)
        return await self._asked("GET", url)

    async def lines(self, url: str, body: Json) -> AsyncGenerator[Answer | bytes, None]:
        """POST, then the lines of a good answer as they come, or the whole of any other. Raises ClientError."""
        try:
            async with await self._request("POST", url, body) as response:
                if not 200 <= response.status < 300:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        answer = await self._answer(response)
                    yield answer
                    return
                async for line in self._lines(response):
                    yield line
        except _BROKEN:
            raise PassingError("The connection broke off in the middle of the audio.") from None

    async def _asked(self, method: str, url: str, body: Json | None = None) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_SECONDS), await self._request(method, url, body) as response:
                return await self._answer(response)
        except _BROKEN as error:
            raise _unreachable(url, error) from None

    async def _request(self, method: str, url: str, body: Json | None) -> aiohttp.ClientResponse:
        """The answer with its headers. Raises ClientError."""
        self._connector.renew()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                response = await self._http.request(method, url, json=body, allow_redirects=False)
        except (*_BROKEN, ValueError) as error:  # ValueError: an address or a header that cannot be sent
            raise _unreachable(url, error) from None
        if 300 <= response.status < 400:
            response.close()
            raise ClientError("The endpoint's address leads to another one by a redirect; give that one.")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            response.close()
            raise ClientError("The endpoint's answer is compressed although it was asked not to be.")
        return response

    async def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        body = bytearray()
        async for chunk in self._chunks(response, MAX_ANSWER_BYTES):
            body += chunk
        return Answer(response.status, response.headers, bytes(body))

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        rest = bytearray()
        lines = 0
        chunks = self._chunks(response, MAX_STREAM_BYTES)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STREAM_SECONDS
        line_deadline = loop.time() + LINE_SECONDS
        while True:
            # Around this alone: a time limit that passed while the caller has the line would end the caller.
            async with asyncio.timeout_at(min(deadline, line_deadline)):
                chunk = await anext(chunks, b"")
            lines += chunk.count(b"\n")
            if lines > MAX_LINES:
                raise ClientError(f"The endpoint sent more than {MAX_LINES} lines.")
            *whole, last = chunk.split(b"\n")
            for line in whole:
                rest += line
                if rest.strip():
                    yield bytes(rest)
                    line_deadline = loop.time() + LINE_SECONDS
                rest.clear()
            rest += last
            if len(rest) > MAX_ANSWER_BYTES:
                raise ClientError("The endpoint sent a line without an end.")
            if not chunk:
                break
        if rest.strip():
            yield bytes(rest)

    async def _chunks(self, response: aiohttp.ClientResponse, most: int) -> AsyncGenerator[bytes, None]:
        """Raises ClientError for more than `most` bytes."""
        received = 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            self._connector.bytes_left += len(chunk)
            received += len(chunk)
            if received > most:
                raise ClientError(f"The endpoint sent more than {most // 1_000_000} MB.")
            yield chunk
        if self._connector.exceeded:
            raise ClientError("The endpoint sent more than belongs to an answer.")


class _Unreachable(PassingError):
    """No answer came; another attempt may get one."""


def _unreachable(url: str, error: Exception) -> _Unreachable:
    parts = urlsplit(url)
    said = f"{parts.scheme}://{parts.netloc} cannot be reached: {_reason(error)}; is the address right, and is it up?"
    return _Unreachable(said, sent=not isinstance(error, _NO_CONNECTION))


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate or its TLS is not accepted"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) else "it does not answer as HTTP does"


def parsed(text: bytes) -> Any:
    """The JSON of an answer; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
