"""A bucket that results are put into, and links to them that expire."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from higgs_core.errors import DeliveryError, RequestError
from serverless.config.s3 import S3Config
from serverless.delivery.object_address import object_address
from serverless.delivery.signing import Signer
from serverless.delivery.upload import Pause, Uploader, UploadFailed
from serverless.network.fetch_guard import FetchGuard, FetchRefused, operators_guard
from serverless.network.fetch_target import read_target
from serverless.network.pinned_client import checked_addresses

logger = logging.getLogger(__name__)

LOOK_UP_SECONDS = 10.0

# The operator's bucket may lie in a network of their own.
_ANYWHERE = FetchGuard(ports=None, trusted_networks=tuple(map(ipaddress.ip_network, ("0.0.0.0/0", "::/0"))))


@dataclass(frozen=True)
class Upload:
    """Where an object can be fetched, by whoever holds the link, until `expires_at` (UTC)."""

    url: str
    expires_at: datetime


class Bucket:
    """The bucket of BUCKET_*, or a job's own. Nothing is contacted before the first upload.

    timeout_seconds: for one upload with all its attempts. of_job: it must lie on the public internet, and a job learns
    nothing about why an upload to it failed, as its endpoint may be any server.
    """

    def __init__(
        self,
        config: S3Config,
        *,
        prefix: str,
        url_ttl_seconds: int,
        timeout_seconds: float,
        of_job: bool = False,
        guard: FetchGuard | None = None,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._prefix = prefix.strip("/")
        self._ttl = url_ttl_seconds
        self._of_job = of_job
        self._guard = guard or (replace(operators_guard(), ports=None) if of_job else _ANYWHERE)
        self._signer = Signer(config)
        self._uploader = Uploader(self._signer, self._guard, timeout_seconds=timeout_seconds, pause=pause)
        self._address = object_address(config.endpoint_url, config.bucket_name, config.region)

    async def check(self) -> None:
        """Look up the host that would be dialled. Raises RequestError, with one sentence whatever the reason."""
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                await checked_addresses(self._guard, read_target(self._address.url("")))
        except (FetchRefused, TimeoutError):
            raise RequestError(
                "s3Config.endpointUrl does not lead to a public address.", field="s3Config.endpointUrl"
            ) from None

    async def upload(self, data: bytes, *, name: str, content_type: str) -> Upload:
        """Put `data` under the prefix and `name`, and sign a link to it. Cancelling it gives the upload up.

        Raises DeliveryError naming the store's error code; the addresses and keys stay out of the sentence.
        """
        key = self._key(name)
        try:
            self._address = await self._uploader.put(self._address, key, data, content_type)
            expires_at = datetime.now(UTC) + timedelta(seconds=self._ttl)
            url = self._signer.link(self._address.url(key), region=self._address.region, lifetime_seconds=self._ttl)
        except UploadFailed as failure:
            raise self._failed(str(failure)) from None
        except Exception as error:  # a defect must not cost speech that is finished
            raise self._failed(type(error).__name__) from None
        return Upload(url=url, expires_at=expires_at.replace(microsecond=0))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _failed(self, reason: str) -> DeliveryError:
        logger.warning("upload to S3 failed: %s", reason)
        if self._of_job:
            return DeliveryError(
                "The result could not be uploaded to the bucket of s3Config.",
                hint="Check the bucket's name, address, keys and write permission in s3Config.",
            )
        return DeliveryError(
            f"The result could not be uploaded to S3 ({reason}).",
            hint="Check the bucket's name, address, keys and write permission in BUCKET_*.",
        )


def object_name(job_id: str, extension: str) -> str:
    """A key that is the same for a repeated job and holds nothing but letters, digits, '-' and '_'."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', job_id)[:128] or 'job'}.{extension}"
