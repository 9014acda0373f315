"""Handing the audio over: in the response while the platform lets it through, by S3 when it would not.

The platform drops a result of more than 20 MB and tells nobody, so the size that counts is the one after serialising.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from higgs_core.errors import DeliveryError, RequestError
from serverless.config.s3 import S3Config, parse_s3_config
from serverless.delivery.s3 import Bucket, object_name
from serverless.references.fetch_guard import FetchRefused, operators_guard

if TYPE_CHECKING:
    from higgs_core.audio import AudioFormat
    from serverless.config.settings import Settings

Mode = Literal["auto", "inline", "s3"]


@dataclass(frozen=True)
class Parcel:
    """One encoded file and the job that it answers."""

    job_id: str
    audio: bytes
    audio_format: AudioFormat


class Delivery:
    """How the results of this worker travel."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.bucket_prefix
        self._ttl = settings.bucket_url_ttl_seconds
        self.max_inline_bytes = settings.max_inline_bytes
        self._bucket = self._open(settings.s3_config) if settings.s3_config else None

    def bucket_for(self, mode: Mode, s3_config: Mapping[str, Any] | None) -> Bucket | None:
        """The bucket that a job may use: its own `s3Config`, else the worker's, else None.

        Called before anything is generated. Blocking: the host of a job's own bucket is looked up. Raises RequestError
        for a wrong s3Config, or for S3 without a bucket.
        """
        own = parse_s3_config({"s3Config": s3_config})
        if own is not None:
            require_public(own)
        bucket = self._open(own) if own else self._bucket
        if mode == "s3" and bucket is None:
            raise RequestError(
                "delivery is s3, but this worker has no bucket.",
                field="delivery",
                hint="Set BUCKET_* on the endpoint, send s3Config beside input, or use auto.",
            )
        return bucket

    def deliver(
        self,
        description: Mapping[str, Any],
        parcel: Parcel,
        *,
        mode: Mode,
        bucket: Bucket | None,
    ) -> dict[str, Any]:
        """The complete response: `description` with `audio_base64`, or with `audio_url` and `expires_at`. Blocking.

        Raises DeliveryError when the audio fits nowhere; its sentence says how large it was and what would help.
        """
        inline_bytes = serialised_bytes(description) + base64_length(len(parcel.audio))
        fits = inline_bytes <= self.max_inline_bytes
        if mode == "inline" or (mode == "auto" and (fits or bucket is None)):
            if not fits:
                raise self._too_large(inline_bytes, mode, bucket)
            return _inline(description, parcel.audio)
        assert bucket is not None  # bucket_for has refused s3 without one
        try:
            where = _upload(bucket, parcel)
        except DeliveryError as error:
            if not fits:
                raise DeliveryError(
                    f"{error.message} It is {_megabytes(inline_bytes)}, too large to return inline "
                    f"(at most {_megabytes(self.max_inline_bytes)}).",
                    hint=error.hint,
                ) from None
            warning = f"{error.message} The audio is returned inline instead."
            return _inline({**description, "warnings": [*description.get("warnings", []), warning]}, parcel.audio)
        response = {**description, **where}
        if (size := serialised_bytes(response)) > self.max_inline_bytes:
            raise self._too_large(size, mode, bucket)
        return response

    def upload_beside_stream(self, bucket: Bucket, parcel: Parcel) -> dict[str, Any]:
        """What joins the last item of a stream whose file is uploaded too: the link, or why there is none. Blocking."""
        try:
            return dict(_upload(bucket, parcel))
        except DeliveryError as error:
            return {"warnings": [f"{error.message} The audio is in the stream alone."]}

    def _open(self, config: S3Config) -> Bucket:
        return Bucket(config, prefix=self._prefix, url_ttl_seconds=self._ttl)

    def _too_large(self, size: int, mode: Mode, bucket: Bucket | None) -> DeliveryError:
        if bucket is None:
            hint = "Set BUCKET_* on the endpoint or send s3Config beside input, use response_format mp3 or opus"
        elif mode == "inline":
            hint = "Use delivery auto or s3, response_format mp3 or opus"
        else:
            hint = "Leave out return_audio_tokens and return_text_tokens"
        return DeliveryError(
            f"The result is {_megabytes(size)} and at most {_megabytes(self.max_inline_bytes)} can be returned inline.",
            field="delivery",
            hint=f"{hint}, or ask for less speech at a time.",
        )


def require_public(config: S3Config) -> None:
    """Refuse a job's bucket on an address of the worker's own network. Raises RequestError."""
    address = urlsplit(config.endpoint_url or "")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        replace(operators_guard(), ports=None).addresses(address.hostname or "", port)
    except FetchRefused:
        raise RequestError(
            "s3Config.endpointUrl does not lead to a public address.", field="s3Config.endpointUrl"
        ) from None


def serialised_bytes(response: Mapping[str, Any]) -> int:
    """The size of `response` as the SDK posts it. Raises ValueError for NaN, TypeError for what is not JSON."""
    return len(json.dumps({"output": response}, ensure_ascii=False, allow_nan=False).encode())


def base64_length(size: int) -> int:
    """Bytes that `"audio_base64": "..."` takes in JSON for `size` bytes of audio."""
    return 4 * -(-size // 3) + len(', "audio_base64": ""')


def _upload(bucket: Bucket, parcel: Parcel) -> dict[str, str]:
    """The keys that stand in a response in place of `audio_base64`. Raises DeliveryError."""
    upload = bucket.upload(
        parcel.audio,
        name=object_name(parcel.job_id, parcel.audio_format.extension),
        content_type=parcel.audio_format.mime_type,
    )
    return {"audio_url": upload.url, "expires_at": upload.expires_at.isoformat().replace("+00:00", "Z")}


def _inline(description: Mapping[str, Any], audio: bytes) -> dict[str, Any]:
    return {"audio_base64": base64.b64encode(audio).decode("ascii"), **description}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
