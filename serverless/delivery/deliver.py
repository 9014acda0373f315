"""Handing the audio over: in the response while the platform lets it through, by S3 when it would not.

The platform drops a result of more than 20 MB without an error, so the size that counts is the one after serialising.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from higgs_core.errors import DeliveryError, RequestError
from higgs_core.rates import SAMPLING_RATE
from serverless.config.s3 import S3Config, parse_s3_config
from serverless.delivery.least_size import least_result_bytes
from serverless.delivery.s3 import Bucket, Upload, object_name
from serverless.delivery.serialise import base64_length, response_json, serialised_bytes

if TYPE_CHECKING:
    from serverless.config.settings import Settings
    from serverless.delivery.response import SpeechResponse
    from serverless.payload.parse import OutputOptions


T = TypeVar("T")


class Delivery:
    """How the results of this worker travel. Its coroutines belong to one event loop.

    threads: measure responses, by default the event loop's own.
    """

    def __init__(self, settings: Settings, threads: Executor | None = None) -> None:
        self._settings = settings
        self._threads = threads
        self._max_inline_bytes = settings.max_inline_bytes
        self._bucket = self._open(settings.s3_config) if settings.s3_config else None

    async def bucket_for(self, mode: str, s3_config: Mapping[str, Any] | None) -> Bucket | None:
        """The bucket that a job may use: its own `s3Config`, else the worker's, else None.

        Called before anything is generated: the host of a job's own bucket is looked up. Raises RequestError for a
        wrong s3Config, or for S3 without a bucket.
        """
        own = parse_s3_config(s3_config)
        bucket = self._open(own, of_job=True) if own else self._bucket
        if own is not None and bucket is not None:
            await bucket.check()
        if mode == "s3" and bucket is None:
            raise RequestError(
                "delivery is s3, but this worker has no bucket.",
                field="delivery",
                hint="Set BUCKET_* on the endpoint, send s3Config beside input, or use auto.",
            )
        return bucket

    def check_partial(self, output: OutputOptions, speech: int, pauses: int, bucket: Bucket | None) -> None:
        """Raise DeliveryError once a result can fit nowhere, however little is still to come of its speech.

        speech, pauses: samples so far, before the time-stretch.
        """
        size = least_result_bytes(output, speech, pauses, inline=output.delivery == "inline" or bucket is None)
        if size > self._max_inline_bytes:
            raise self._too_large(size, output.delivery, bucket, after_seconds=(speech + pauses) / SAMPLING_RATE)

    async def deliver(self, response: SpeechResponse, audio: bytes, bucket: Bucket | None) -> SpeechResponse:
        """The response with its audio inline, or with the link to its upload. Cancelling it ends the upload.

        Raises DeliveryError when the audio fits nowhere; its sentence says how large it was and what would help.
        """
        mode = response.job.output.delivery
        inline_bytes = await self._in_thread(_size, response) + base64_length(len(audio))
        fits = inline_bytes <= self._max_inline_bytes
        if mode == "inline" or (mode == "auto" and (fits or bucket is None)):
            if not fits:
                raise self._too_large(inline_bytes, mode, bucket)
            return replace(response, audio=audio)
        assert bucket is not None  # bucket_for has refused s3 without one
        try:
            linked = replace(response, upload=await _upload(bucket, response, audio))
        except DeliveryError as error:
            if not fits:
                raise DeliveryError(
                    f"{error.message} It is {_megabytes(inline_bytes)}, too large to return inline "
                    f"(at most {_megabytes(self._max_inline_bytes)}).",
                    hint=error.hint,
                ) from None
            warning = f"{error.message} The audio is returned inline instead."
            return replace(response, audio=audio, warnings=(*response.warnings, warning))
        if (size := await self._in_thread(_size, linked)) > self._max_inline_bytes:
            raise self._too_large(size, mode, bucket)
        return linked

    async def upload_beside_stream(self, response: SpeechResponse, audio: bytes, bucket: Bucket) -> SpeechResponse:
        """The last item of a stream whose file is uploaded too: with the link, or a warning why there is none."""
        try:
            return replace(response, upload=await _upload(bucket, response, audio))
        except DeliveryError as error:
            warning = f"{error.message} The audio is in the stream alone."
            return replace(response, warnings=(*response.warnings, warning))

    def _open(self, config: S3Config, *, of_job: bool = False) -> Bucket:
        return Bucket(
            config,
            prefix=self._settings.bucket_prefix,
            url_ttl_seconds=self._settings.bucket_url_ttl_seconds,
            timeout_seconds=self._settings.max_upload_seconds,
            of_job=of_job,
        )

    async def _in_thread(self, function: Callable[[SpeechResponse], T], response: SpeechResponse) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, response)

    def _too_large(
        self, size: int, mode: str, bucket: Bucket | None, *, after_seconds: float | None = None
    ) -> DeliveryError:
        if bucket is None:
            hint = "Set BUCKET_* on the endpoint or send s3Config beside input, use response_format mp3 or opus"
        elif mode == "inline":
            hint = "Use delivery auto or s3, response_format mp3 or opus"
        else:
            hint = "Leave out return_audio_tokens and return_text_tokens"
        limit = _megabytes(self._max_inline_bytes)
        is_ = "is" if after_seconds is None else f"was stopped after {after_seconds:.0f} s of speech: it is at least"
        return DeliveryError(
            f"The result {is_} {_megabytes(size)} and at most {limit} can be returned inline.",
            field="delivery",
            hint=f"{hint}, or ask for less speech at a time.",
        )


def _size(response: SpeechResponse) -> int:
    """Bytes of its JSON as the platform sees it."""
    return serialised_bytes(response_json(response))


async def _upload(bucket: Bucket, response: SpeechResponse, audio: bytes) -> Upload:
    """Raises DeliveryError."""
    return await bucket.upload(
        audio,
        name=object_name(response.job_id, response.audio_format.extension),
        content_type=response.audio_format.mime_type,
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
