"""Where a result goes when it is delivered by S3: the bucket of BUCKET_*, or of the job's own `s3Config`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from higgs_core.errors import RequestError
from serverless.config.types import is_web_address

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_MAX_CHARACTERS = 1024


@dataclass(frozen=True)
class S3Config:
    """One bucket and the keys that open it; the keys never show in its repr. endpoint_url None means AWS itself."""

    bucket_name: str
    access_key_id: SecretStr
    secret_access_key: SecretStr
    endpoint_url: str | None = None
    region: str | None = None


def parse_s3_config(given: object) -> S3Config | None:
    """Read `s3Config {accessId, accessSecret, bucketName, endpointUrl}`, which rides beside a job's `input`.

    None when the job carries none. Raises RequestError naming the key; no value of it is ever echoed.
    """
    if given is None or given == {}:
        return None
    if not isinstance(given, Mapping):
        raise RequestError(
            "s3Config must be an object with accessId, accessSecret, bucketName and endpointUrl.", field="s3Config"
        )
    bucket = _text(given, "bucketName")
    if not BUCKET_NAME.fullmatch(bucket):
        raise RequestError(
            "s3Config.bucketName is not a bucket name; allowed are letters, digits, '.', '_' and '-'.",
            field="s3Config.bucketName",
        )
    endpoint = _text(given, "endpointUrl")
    if not is_web_address(endpoint):
        raise RequestError(
            "s3Config.endpointUrl is not an address; allowed is http(s)://host without user, query or fragment.",
            field="s3Config.endpointUrl",
        )
    return S3Config(
        bucket_name=bucket,
        access_key_id=SecretStr(_text(given, "accessId")),
        secret_access_key=SecretStr(_text(given, "accessSecret")),
        endpoint_url=endpoint.rstrip("/"),
    )


def _text(given: Mapping[str, object], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"s3Config.{key} is missing; it must be a text that is not blank.", field=f"s3Config.{key}")
    if len(value) > _MAX_CHARACTERS or not value.isprintable():
        raise RequestError(f"s3Config.{key} is too long or holds control characters.", field=f"s3Config.{key}")
    return value.strip()
