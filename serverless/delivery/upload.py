"""Putting one object into a bucket: within one deadline and one limit of bytes, whatever the store does."""

from __future__ import annotations

import asyncio
import os
import random
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import certifi

from serverless.delivery.object_address import ObjectAddress
from serverless.delivery.signing import Signer
from serverless.network.fetch_guard import FetchGuard, FetchRefused
from serverless.network.fetch_target import read_target
from serverless.network.pinned_client import PinnedClient

ATTEMPTS = 3
CONNECT_SECONDS = 10.0  # all addresses of a store together
SILENCE_SECONDS = 60.0  # between the last byte that was sent and the first that comes back
ERROR_SECONDS = 5.0  # for the text of a refusal
FIRST_PAUSE_SECONDS = 0.5  # doubled for each further attempt, and drawn between half and all of it

_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_OTHER_REGION = frozenset({301, 307, 400})
_LONGEST_ERROR = 2**16
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,40})\s*</Code>")
_REGION = re.compile(rb"<Region>\s*([a-z0-9-]{1,64})\s*</Region>")
_CODES_TO_TRY_AGAIN = frozenset({"RequestTimeout", "SlowDown"})
_CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")  # as boto3 reads them

Pause = Callable[[float], Awaitable[object]]


class UploadFailed(Exception):
    """Why, for the operator: in words without host, path or key."""


@dataclass(frozen=True)
class _Answer:
    """What a store said instead of yes. region: where the bucket is, if it told."""

    status: int
    code: str | None
    region: str | None

    @property
    def worth_another_try(self) -> bool:
        return self.status in _TRY_AGAIN or self.code in _CODES_TO_TRY_AGAIN

    @property
    def reason(self) -> str:
        return self.code or (f"a redirect, {self.status}" if 300 <= self.status < 400 else f"status {self.status}")


class Uploader:
    """Puts objects where an address says, over connections to addresses that the guard has checked.

    timeout_seconds: for one upload with all its attempts. pause: how to wait between two of them.
    """

    def __init__(
        self, signer: Signer, guard: FetchGuard, *, timeout_seconds: float, pause: Pause = asyncio.sleep
    ) -> None:
        self._signer = signer
        self._guard = guard
        self._timeout_seconds = timeout_seconds
        self._pause = pause

    async def put(self, address: ObjectAddress, key: str, data: bytes, content_type: str) -> ObjectAddress:
        """Where it lies now: the store may have named another region. Cancelling it closes the connection.

        Raises UploadFailed.
        """
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                PinnedClient(
                    self._guard,
                    connect_seconds=CONNECT_SECONDS,
                    silence_seconds=SILENCE_SECONDS,
                    tls=await _tls(),
                ) as client,
            ):
                return await self._put_with_retries(client, address, key, data, content_type)
        except TimeoutError:
            raise UploadFailed(f"it took longer than {self._timeout_seconds:g} s") from None

    async def _put_with_retries(
        self, client: PinnedClient, address: ObjectAddress, key: str, data: bytes, content_type: str
    ) -> ObjectAddress:
        redirected = False
        attempt = 1
        while True:
            try:
                answer = await self._put_once(client, address, key, data, content_type)
            except FetchRefused as refusal:
                reason, again = str(refusal), not client.exhausted
            else:
                if answer is None:
                    return address
                reason, again = answer.reason, answer.worth_another_try
                elsewhere = address.in_region(answer.region) if answer.region and not redirected else None
                if elsewhere is not None:
                    address, redirected = elsewhere, True
                    continue
            if not again or attempt == ATTEMPTS:
                raise UploadFailed(reason)
            longest = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
            await self._pause(longest * random.uniform(0.5, 1))
            attempt += 1

    async def _put_once(
        self, client: PinnedClient, address: ObjectAddress, key: str, data: bytes, content_type: str
    ) -> _Answer | None:
        """None once the object is stored. Raises FetchRefused."""
        target = read_target(address.url(key))
        sign = self._signer.put
        headers = await asyncio.to_thread(sign, target.url, data, content_type=content_type, region=address.region)
        async with await client.request("PUT", target, headers, data) as response:
            if 200 <= response.status < 300:
                return None
            return await _read_answer(client, response)


async def _read_answer(client: PinnedClient, response: aiohttp.ClientResponse) -> _Answer:
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            async for chunk in client.chunks(response):
                body += chunk
                if len(body) >= _LONGEST_ERROR:
                    break
    except (FetchRefused, TimeoutError):
        pass  # the status is known; what follows it only says more
    code, region = _CODE.search(body), None
    if response.status in _OTHER_REGION:
        told = _REGION.search(body)
        region = response.headers.get("x-amz-bucket-region") or (told[1].decode() if told else None)
    return _Answer(response.status, code[1].decode() if code else None, region)


async def _tls() -> ssl.SSLContext:
    """What a store's certificate is checked against. Raises UploadFailed."""
    bundle = next((path for name in _CA_VARIABLES if (path := os.environ.get(name))), None)
    try:
        return await asyncio.to_thread(_trusting, bundle)
    except OSError:  # ssl.SSLError among them
        raise UploadFailed(f"the certificates of {' or '.join(_CA_VARIABLES)} cannot be read") from None


def _trusting(bundle: str | None) -> ssl.SSLContext:
    """The certificates of a file or a folder; by default, those of the system and of certifi."""
    if bundle is not None:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
