"""One upload to an S3-compatible bucket and a link to it that expires."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from higgs_core.errors import DeliveryError
from serverless.config.s3 import S3Config

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 3

# boto3's default session builds clients under no lock of its own.
_building = threading.Lock()


@dataclass(frozen=True)
class Upload:
    """Where an object can be fetched, by whoever holds the link, until `expires_at` (UTC)."""

    url: str
    expires_at: datetime


class Bucket:
    """A bucket that results are put into. Nothing is contacted before the first upload."""

    def __init__(self, config: S3Config, *, prefix: str, url_ttl_seconds: int) -> None:
        self._name = config.bucket_name
        self._prefix = prefix.strip("/")
        self._ttl = url_ttl_seconds
        self._config = config
        self._client: Any = None

    def upload(self, data: bytes, *, name: str, content_type: str) -> Upload:
        """Put `data` under the prefix and `name`, and sign a link to it. Blocking.

        Raises DeliveryError naming the store's error code; the addresses and keys stay out of the sentence.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        key = f"{self._prefix}/{name}" if self._prefix else name
        try:
            client = self._connect()
            client.put_object(Bucket=self._name, Key=key, Body=data, ContentType=content_type)
            expires_at = datetime.now(UTC) + timedelta(seconds=self._ttl)
            url = client.generate_presigned_url(
                "get_object", Params={"Bucket": self._name, "Key": key}, ExpiresIn=self._ttl
            )
        except ClientError as error:
            raise _failed(_error_code(error)) from None
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint or region that boto3 cannot use
            raise _failed(type(error).__name__) from None
        return Upload(url=str(url), expires_at=expires_at.replace(microsecond=0))

    def _connect(self) -> Any:
        with _building:
            if self._client is None:
                import boto3
                from botocore.config import Config

                endpoint = endpoint_without_bucket(self._config.endpoint_url, self._name)
                on_aws = endpoint is None or endpoint.endswith(".amazonaws.com")
                self._client = boto3.session.Session().client(
                    "s3",
                    endpoint_url=endpoint,
                    region_name=self._config.region or region_of(endpoint),
                    aws_access_key_id=self._config.access_key_id.get_secret_value(),
                    aws_secret_access_key=self._config.secret_access_key.get_secret_value(),
                    config=Config(
                        signature_version="s3v4",
                        connect_timeout=CONNECT_TIMEOUT_SECONDS,
                        read_timeout=READ_TIMEOUT_SECONDS,
                        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                        # Other stores answer boto3's newer default checksums with errors.
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                        s3={"addressing_style": "virtual" if on_aws else "path"},
                    ),
                )
            return self._client


def object_name(job_id: str, extension: str) -> str:
    """A key that is the same for a repeated job and holds nothing but letters, digits, '-' and '_'."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', job_id)[:128] or 'job'}.{extension}"


def region_of(endpoint: str | None) -> str:
    """The region that an endpoint's host names (`s3.eu-west-1.amazonaws.com`), else the one that stores ignore."""
    host = urlsplit(endpoint).hostname or "" if endpoint else ""
    named = re.search(r"(?:^|\.)s3[.-]([a-z]{2,}(?:-[a-z0-9]+)+)\.", host)
    return named[1] if named else "us-east-1"


def endpoint_without_bucket(endpoint: str | None, bucket: str) -> str | None:
    """RunPod's own examples write the bucket into the endpoint, as host or path; boto3 adds it again by itself."""
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    host = parts.netloc.removeprefix(f"{bucket}.")
    path = parts.path.rstrip("/").removesuffix(f"/{bucket}")
    return urlunsplit((parts.scheme, host, path, "", ""))


def _error_code(error: Any) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9]{1,40}", code) else "an unknown error"


def _failed(reason: str) -> DeliveryError:
    logger.warning("upload to S3 failed: %s", reason)
    return DeliveryError(
        f"The result could not be uploaded to S3 ({reason}).",
        hint="Check the bucket's name, address, keys and write permission in BUCKET_* or s3Config.",
    )
