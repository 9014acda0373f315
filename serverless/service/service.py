"""From a job to speech: the one path behind the queue worker, the HTTP server and local runs.

parse -> fetch references -> speak -> encode -> deliver. Blocking steps run in threads; a caller that goes away (its
task is cancelled) sets a flag that the decode loop reads. Every failure becomes the contract's error dict.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from higgs_core.errors import BusyError, HiggsError, ModelLoadError, SettingsError
from serverless.delivery.deliver import Delivery, Parcel
from serverless.delivery.s3 import Bucket
from serverless.payload.parse import parse_job
from serverless.references.voices import voice_library, with_voices
from serverless.service.boot import boot_engine
from serverless.service.job import OnProgress, SpeechJob
from serverless.service.log import JobRecord
from serverless.service.response import InternalError, error_response, public_name, stream_item
from serverless.service.shared_lock import Turnstile
from serverless.service.time_stretch import check_speed

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgs_core.engine import HiggsAudioEngine
    from higgs_core.speech.voices import VoiceLibrary
    from serverless.config.settings import Settings

logger = logging.getLogger(__name__)

NO_STREAM_WARNING = "stream was ignored because this endpoint answers in one piece."


class SpeechService:
    """One model and everything between a job and its response. Its coroutines belong to one event loop.

    `load` first; until it has succeeded, every job is answered with the sentence that says why it cannot be done.
    """

    def __init__(self, settings: Settings, *, boot: Callable[[Settings], HiggsAudioEngine] = boot_engine) -> None:
        self.settings = settings
        self._boot = boot
        self._engine: HiggsAudioEngine | None = None
        self._failure: HiggsError | None = None
        self._poisoned = False
        self._delivery = Delivery(settings)
        self._turnstile = Turnstile()
        self._in_flight = 0
        self._capacity = settings.max_concurrency + settings.max_queued_requests
        # A request blocks one thread at a time, so every request that is let in has one.
        self._threads = ThreadPoolExecutor(self._capacity, thread_name_prefix="speech")

    # -- Life ---------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load and warm up the engine. Blocking. A failure is logged with its remedy, remembered and not raised."""
        try:
            logger.info("%d voices in the library", len(self.voices))
            self._engine = self._boot(self.settings)
            return
        except SettingsError as error:
            logger.error("%s", error.message)  # for the operator only: it names folders
            self._failure = ModelLoadError("The worker is configured wrongly.", hint="The start of its log says how.")
        except HiggsError as error:
            logger.error("%s %s", error.message, error.hint or "")
            self._failure = ModelLoadError(self._without_folders(error.message), hint=error.hint)
        except Exception as error:
            # No request has come yet, so unlike later the exception's own words may go into the log.
            logger.exception("loading the model failed: %s", error)
            self._failure = ModelLoadError(
                f"The model could not be loaded ({type(error).__name__}).",
                hint="The start of the worker's log says where.",
            )

    def _without_folders(self, sentence: str) -> str:
        """The sentence as a client may read it: the operator's folders by their last names."""
        settings = self.settings
        for checkpoint in (settings.model_id, settings.audio_tokenizer_id, settings.tokenizer_id):
            if checkpoint:
                sentence = sentence.replace(checkpoint, public_name(checkpoint))
        return sentence

    def close(self) -> None:
        """Stop the engine; whatever still runs ends with an error."""
        if self._engine is not None:
            self._engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        return self._engine is not None and not self.must_recycle

    @property
    def load_error(self) -> str | None:
        """The sentence that says why there is no engine, once loading has failed."""
        return self._failure.message if self._failure else None

    @property
    def must_recycle(self) -> bool:
        """Whether only a new process helps: the engine's thread has ended or its device is poisoned."""
        return self._poisoned or (self._engine is not None and not self._engine.healthy)

    @property
    def random_weights(self) -> bool:
        return self._engine is not None and self._engine.random_weights

    @property
    def max_concurrency(self) -> int:
        """Requests that are decoded together."""
        return self._engine.max_batch_size if self._engine is not None else self.settings.max_concurrency

    @property
    def voices(self) -> VoiceLibrary:
        """The voices that requests may name. Raises SettingsError when the library is broken."""
        return voice_library(self.settings)

    def stats(self) -> dict[str, Any]:
        """The engine's counters, and `in_flight`: requests anywhere between parsing and delivery."""
        return {"in_flight": self._in_flight, **(self._engine.stats() if self._engine is not None else {})}

    # -- Jobs ---------------------------------------------------------------------------------------------------------

    async def run(
        self,
        job_input: Any,
        *,
        job_id: str,
        s3_config: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """The response, or the error dict, of one job: plain JSON, of a size that the platform accepts.

        on_progress is called from the event loop. An error dict with `refresh_worker: True` means that this process is
        done for. Raises asyncio.CancelledError only.
        """
        try:
            with self._watch(job_id) as record:
                job = self._accept(job_input, record, on_progress)
                response = await self._complete(job, s3_config)
                if job.parsed.output.stream:
                    response["warnings"].append(NO_STREAM_WARNING)
                return response
        except HiggsError as error:
            return self._error(error)

    async def stream(
        self,
        job_input: Any,
        *,
        job_id: str,
        s3_config: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        upload_above: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The response in items while it is generated; a request without `stream: true` gives `run`'s dict, alone.

        Items: {index, start_seconds, audio_base64, audio_format, mime_type, sampling_rate, is_final: False}, then one
        with is_final True and everything of a response but audio_base64. All audio joined is the file. A failure is the
        last item, an error dict. Close the iterator (`contextlib.aclosing`) to stop early.

        upload_above: bytes of audio from which the file is uploaded as well, as if delivery were s3, if there is a
        bucket; for callers that cannot return more.
        """
        try:
            with self._watch(job_id) as record:
                job = self._accept(job_input, record, on_progress)
                if not job.parsed.output.stream:
                    yield await self._complete(job, s3_config)
                    return
                async with aclosing(self._items(job, s3_config, upload_above)) as items:
                    async for item in items:
                        yield item
        except HiggsError as error:
            yield self._error(error)

    # -- Steps --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _watch(self, job_id: str) -> Iterator[JobRecord]:
        """Count the job in, write its line to the log, and turn a defect into an InternalError."""
        try:
            with JobRecord(job_id) as record:
                if self._in_flight >= self._capacity:
                    raise BusyError(
                        f"The worker has {self._in_flight} requests already.", hint="Try again in a few seconds."
                    )
                self._in_flight += 1
                try:
                    yield record
                finally:
                    self._in_flight -= 1
        except HiggsError as error:
            self._poisoned |= error.recycle_worker
            raise
        except Exception:
            raise InternalError from None

    def _error(self, error: HiggsError) -> dict[str, Any]:
        return error_response(error) | ({"refresh_worker": True} if self.must_recycle else {})

    def _accept(self, job_input: Any, record: JobRecord, on_progress: OnProgress | None) -> SpeechJob:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._engine is None:
            raise ModelLoadError("The model is still being loaded.", hint="Try again in a minute.")
        parsed = parse_job(job_input, self.settings, voices=self.voices)
        parsed = replace(parsed, request=with_voices(parsed.request, self.voices))
        check_speed(parsed.output.speed)
        record.note(
            characters=len(parsed.script_echo or ""),
            references=len(parsed.request.reference_sources),
            format=parsed.output.response_format,
        )
        return SpeechJob(
            self._engine,
            parsed,
            self.settings,
            record,
            threads=self._threads,
            turnstile=self._turnstile,
            on_progress=on_progress,
        )

    async def _complete(self, job: SpeechJob, s3_config: Mapping[str, Any] | None) -> dict[str, Any]:
        bucket = await self._bucket(job, s3_config)
        await job.speak()
        audio = await job.encoded()
        parcel = Parcel(job.record.job_id, audio, job.audio_format)
        deliver = partial(self._delivery.deliver, mode=job.parsed.output.delivery, bucket=bucket)
        response = await job.in_thread(deliver, job.description(), parcel)
        job.record.note(delivery="s3" if "audio_url" in response else "inline")
        return response

    async def _items(
        self, job: SpeechJob, s3_config: Mapping[str, Any] | None, upload_above: int | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        bucket = await self._bucket(job, s3_config)
        count = sent_bytes = 0
        async with aclosing(job.stream()) as parts:
            async for part in parts:
                yield stream_item(part, index=count, audio_format=job.audio_format)
                count += 1
                sent_bytes += len(part.data)
        job.record.note(parts=count)
        link: dict[str, Any] = {}
        too_much = upload_above is not None and sent_bytes > upload_above
        if bucket is not None and (too_much or job.parsed.output.delivery == "s3"):
            parcel = Parcel(job.record.job_id, await job.encoded(), job.audio_format)
            link = await job.in_thread(self._delivery.upload_beside_stream, bucket, parcel)
        description = job.description()
        description["warnings"] += link.pop("warnings", [])
        yield {"index": count, "is_final": True, **description, **link}

    async def _bucket(self, job: SpeechJob, s3_config: Mapping[str, Any] | None) -> Bucket | None:
        # In a thread: the host of a job's own bucket is looked up.
        return await job.in_thread(self._delivery.bucket_for, job.parsed.output.delivery, s3_config)
