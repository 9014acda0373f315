"""One accepted job on its way from clips to encoded speech. Blocking steps run in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from higgs_core.audio import FORMATS, encode_audio
from higgs_core.cancellation import CancelToken
from higgs_core.errors import DeviceMemoryError
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.plan import check_text
from higgs_core.speech.progress import OnProgress, Progress
from higgs_core.speech.request import Clips
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import speak
from serverless.delivery.response import Accepted, AudioPart, SpeechResponse
from serverless.delivery.serialise import timings_json
from serverless.service.effects import with_effects
from serverless.service.on_device import on_device
from serverless.service.part_stream import PartStream

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from serverless.config.settings import Settings
    from serverless.delivery.deliver import Delivery
    from serverless.delivery.s3 import Bucket
    from serverless.payload.parse import ParsedJob
    from serverless.references.resolve import ClipResolver
    from serverless.service.job_record import JobRecord
    from serverless.service.shared_lock import SharedLock
    from serverless.voices.library import LivingLibrary, ReadyVoices

T = TypeVar("T")

NO_STREAM_WARNING = "stream was ignored because this endpoint answers in one piece."


@dataclass(frozen=True)
class Resources:
    """What all jobs of a service share. device_lock: held shared by a job that generates or waits for a voice,
    exclusively by one that ran out of device memory and is tried again."""

    engine: HiggsAudioEngine
    settings: Settings
    model_name: str
    delivery: Delivery
    voices: LivingLibrary
    clips: ClipResolver
    threads: Executor
    device_lock: SharedLock


class SpeechJob:
    """Await `run`, or iterate over `stream`, once. Both raise HiggsError.

    Cancelling the awaiting task frees the engine's slot within a few decode steps. A job that runs out of device memory
    is tried again alone, unless some of its audio has left already.
    live: see PartStream.
    """

    def __init__(
        self,
        parsed: ParsedJob,
        resources: Resources,
        record: JobRecord,
        *,
        s3_config: Mapping[str, Any] | None = None,
        on_progress: OnProgress | None = None,
        context: PieceContext | None = None,
        live: bool = True,
    ) -> None:
        self._parsed = parsed
        self._resources = resources
        self._record = record
        self._s3_config = s3_config
        self._on_progress = _in_loop(on_progress)
        self._context = context
        self._live = live
        self._format = FORMATS[parsed.output.response_format]
        self._voice_seconds: float | None = None
        self._voice_warnings: tuple[str, ...] = ()
        self._clip_seconds = self._encode_seconds = 0.0
        self._clip_warnings: tuple[str, ...] = ()
        self._spoken_from = 0.0  # seconds after the job came in

    @property
    def accepted(self) -> Accepted:
        return Accepted(self._parsed.output.stream, self._format, self._parsed.warnings)

    async def run(self) -> SpeechResponse:
        """Generate, encode and deliver the whole."""
        bucket = await self._prepare()
        async with self._resolved_clips() as clips:
            speech = await self._on_device(partial(self._speak, clips, bucket))
        audio = await self._encode(speech)
        ignored = (NO_STREAM_WARNING,) if self._parsed.output.stream else ()
        response = self._response(speech)
        response = await self._resources.delivery.deliver(response, audio, bucket)
        self._record.note(delivery="s3" if response.upload else "inline")
        return replace(response, warnings=(*response.warnings, *ignored))

    async def stream(self, *, upload_above: int | None = None) -> AsyncGenerator[AudioPart | SpeechResponse, None]:
        """The parts of the file while it is generated, then the response. Close the iterator to stop early.

        upload_above: bytes of audio from which the file is uploaded as well, as if delivery were s3, if there is a
        bucket.
        """
        bucket = await self._prepare()
        sent_parts = sent_bytes = 0
        lock = self._resources.device_lock
        async with self._resolved_clips() as clips:
            for alone in (False, True):
                try:
                    async with lock.exclusive() if alone else lock.shared(), self._part_stream(clips) as parts:
                        while (part := await parts.next_part()) is not None:
                            if not sent_parts:
                                part = replace(part, warnings=(*self._voice_warnings, *self._clip_warnings))
                            sent_parts += 1
                            sent_bytes += len(part.data)
                            yield part
                    break
                except DeviceMemoryError:
                    if sent_parts or alone:
                        raise
                    self._record.note(retried_alone=True)
        assert parts.speech is not None  # all parts came
        self._encode_seconds = parts.encode_seconds
        self._record.note(parts=sent_parts)
        too_much = upload_above is not None and sent_bytes > upload_above
        if bucket is not None and (too_much or self._parsed.output.delivery == "s3"):
            file = await self._encode(parts.speech)  # its header states the length
            response = replace(self._response(parts.speech), parts=sent_parts)
            yield await self._resources.delivery.upload_beside_stream(response, file, bucket)
        else:
            yield replace(self._response(parts.speech), parts=sent_parts)

    async def _prepare(self) -> Bucket | None:
        """Where to deliver. A text that is too much is refused here, before any clip is fetched."""
        if self._parsed.request.reference_sources:
            engine = self._resources.engine
            check = partial(check_text, max_piece_words=engine.max_piece_words)
            await self._in_thread(check, self._parsed.request, engine.max_context)
        return await self._bucket()

    async def _bucket(self) -> Bucket | None:
        return await self._resources.delivery.bucket_for(self._parsed.output.delivery, self._s3_config)

    @asynccontextmanager
    async def _resolved_clips(self) -> AsyncIterator[Clips]:
        """The request's clips; their memory is accounted for until the block is left."""
        sources = self._parsed.request.reference_sources
        if not sources:
            yield {}
            return
        voices = await self._ready_voices()
        before = self._record.seconds
        seconds = self._parsed.output.download_timeout
        prepare = self._parsed.request.prepare_references
        async with self._resources.clips.resolved(
            sources, timeout_seconds=seconds, voices=voices.codes, prepare=prepare
        ) as clips:
            self._clip_seconds = self._record.seconds - before
            self._clip_warnings = clips.warnings
            self._record.note(fetch_seconds=self._clip_seconds)
            yield clips.audio

    async def _ready_voices(self) -> ReadyVoices:
        """The codes of the library's voices. One that nobody has used yet is made first, and the time that it takes is
        this job's; what is generated for it is not, as all later requests have it too."""
        before = self._record.seconds
        sources = self._parsed.request.reference_sources
        voices = dict.fromkeys(source.voice for source in sources if source.voice is not None)
        making = partial(self._resources.voices.ready, voices)
        ready = await (self._on_device(making) if voices else making())  # without voices nothing uses the device
        self._voice_warnings = ready.warnings
        if ready.made:
            self._voice_seconds = self._record.seconds - before
            self._record.note(voice_seconds=self._voice_seconds)
        return ready

    async def _speak(self, clips: Clips, bucket: Bucket | None) -> SpeechResult:
        """The whole speech. Raises DeliveryError as soon as its result could not be delivered any more."""
        cancel = CancelToken()

        def check_samples(speech: int, pauses: int) -> None:
            self._resources.delivery.check_partial(self._parsed.output, speech, pauses, bucket)

        self._spoken_from = self._record.seconds
        try:
            spoken = partial(
                speak,
                cancel=cancel,
                on_progress=self._on_progress,
                context=self._context,
                check_samples=check_samples,
            )
            speech = await self._in_thread(spoken, self._resources.engine, self._parsed.request, clips)
            return await self._in_thread(with_effects, speech, self._parsed.output)
        finally:
            cancel.cancel()

    def _part_stream(self, clips: Clips) -> PartStream:
        self._spoken_from = self._record.seconds
        return PartStream(
            self._resources.engine,
            self._parsed,
            clips,
            threads=self._resources.threads,
            max_part_bytes=self._resources.settings.max_stream_chunk_bytes,
            on_progress=self._on_progress,
            context=self._context,
            live=self._live,
        )

    async def _encode(self, speech: SpeechResult) -> bytes:
        """The speech as one file, whose header states its length."""
        output, before = self._parsed.output, self._record.seconds
        audio = await self._in_thread(encode_audio, speech.audio, output.response_format, output.wav_encoding)
        self._encode_seconds += self._record.seconds - before
        return audio

    def _response(self, speech: SpeechResult) -> SpeechResponse:
        """The response without its audio; its measures also go into the job's line in the log."""
        built_in = self._resources.engine.built_in
        notice = (built_in.notice,) if built_in is not None else ()
        response = SpeechResponse(
            job_id=self._record.job_id,
            job=self._parsed,
            speech=speech,
            audio_format=self._format,
            model=self._resources.model_name,
            timings=self._timings(speech),
            warnings=(*self._parsed.warnings, *self._voice_warnings, *self._clip_warnings, *speech.warnings, *notice),
        )
        timings = timings_json(response)
        self._record.note(
            duration_seconds=round(response.duration_seconds, 4),
            finish_reason=speech.finish_reason,
            retried_pieces=speech.retried_pieces,
            **speech.usage,
            **{name if name == "real_time_factor" else f"{name}_seconds": timings[name] for name in timings},
        )
        return response

    def _timings(self, speech: SpeechResult) -> dict[str, float]:
        """The engine's measures, which begin when it is asked, seen from the moment at which the job came in."""
        timings = dict(speech.timings)
        for name, before in (("reference", self._clip_seconds), ("first_audio", self._spoken_from)):
            if name in timings:
                timings[name] += before
        if self._voice_seconds is not None:
            timings["voice"] = self._voice_seconds
        return {**timings, "encode": self._encode_seconds, "total": self._record.seconds}

    async def _on_device(self, work: Callable[[], Awaitable[T]]) -> T:
        return await on_device(
            self._resources.device_lock, work, before_retry=lambda: self._record.note(retried_alone=True)
        )

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        call = partial(_contained, partial(function, *arguments))
        return await asyncio.get_running_loop().run_in_executor(self._resources.threads, call)


def _contained(function: Callable[[], T]) -> T:
    """What it returns or raises. What ends a thread would end the event loop too, and what ends an iterator is an
    exception that asyncio's futures do not take: whoever waits would wait for ever."""
    try:
        return function()
    except (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration) as ended:
        raise RuntimeError("a step of the job ended its thread") from ended


def _in_loop(on_progress: OnProgress | None) -> OnProgress | None:
    """`on_progress`, called from the event loop wherever it is called from."""
    if on_progress is None:
        return None
    loop, callback = asyncio.get_running_loop(), on_progress

    def report(progress: Progress) -> None:
        with suppress(RuntimeError):  # the loop is closed, and whoever listened went with it
            loop.call_soon_threadsafe(callback, progress)

    return report
