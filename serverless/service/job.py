"""One accepted job on its way from clips to encoded speech. Blocking steps run in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from higgs_core.audio import FORMATS, AudioFormat, encode_audio
from higgs_core.errors import DeviceMemoryError
from higgs_core.speech.speak import Progress, SpeechResult, speak
from serverless.references.resolve import resolve
from serverless.service.response import describe, public_name
from serverless.service.streaming import Part, Streamer
from serverless.service.time_stretch import paced

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from higgs_core.prompt.chatml import AudioContent
    from higgs_core.speech.request import ReferenceSource
    from serverless.config.settings import Settings
    from serverless.payload.parse import ParsedJob
    from serverless.service.log import JobRecord
    from serverless.service.shared_lock import Turnstile

OnProgress = Callable[[Progress], None]
Clips = Mapping["ReferenceSource", "AudioContent"]
T = TypeVar("T")


class SpeechJob:
    """Await `speak`, or iterate over `stream`; then `description` and `encoded` have the rest of the response.

    Cancelling the awaiting task frees the engine's slot within a few decode steps. A job that runs out of device memory
    is tried again alone, unless some of its audio has left already. Both raise HiggsError.
    """

    def __init__(
        self,
        engine: HiggsAudioEngine,
        parsed: ParsedJob,
        settings: Settings,
        record: JobRecord,
        *,
        threads: Executor,
        turnstile: Turnstile,
        on_progress: OnProgress | None,
    ) -> None:
        self.parsed = parsed
        self.record = record
        self._engine = engine
        self._settings = settings
        self._threads = threads
        self._turnstile = turnstile
        self._on_progress = _in_loop(on_progress)
        self._speech: SpeechResult | None = None
        self._encode_seconds = self._clip_seconds = 0.0
        self._spoken_from = 0.0  # seconds after the job came in

    @property
    def audio_format(self) -> AudioFormat:
        return FORMATS[self.parsed.output.response_format]

    async def speak(self) -> None:
        """Generate the whole utterance."""
        clips = await self._clips()
        try:
            async with self._turnstile.together():
                self._speech = await self._speak(clips)
        except DeviceMemoryError:
            self.record.note(retried_alone=True)
            async with self._turnstile.alone():
                self._speech = await self._speak(clips)

    async def stream(self) -> AsyncGenerator[Part, None]:
        """The file in parts while it is generated. Close the iterator to stop early."""
        clips = await self._clips()
        begun = False
        try:
            async with self._turnstile.together(), aclosing(self._parts(clips)) as parts:
                async for part in parts:
                    begun = True
                    yield part
        except DeviceMemoryError:
            if begun:
                raise
            self.record.note(retried_alone=True)
            async with self._turnstile.alone(), aclosing(self._parts(clips)) as parts:
                async for part in parts:
                    yield part

    async def encoded(self) -> bytes:
        """The utterance as one file, whose header states its length."""
        speech, output = self._finished, self.parsed.output
        before = self.record.seconds
        audio = await self.in_thread(encode_audio, speech.audio, output.response_format, output.wav_encoding)
        self._encode_seconds += self.record.seconds - before
        return audio

    def description(self) -> dict[str, Any]:
        """Everything of the response but the audio; its measures also go into the job's line in the log."""
        description = describe(
            self.parsed,
            self._finished,
            audio_format=self.audio_format,
            model=public_name(self._settings.model_id),
            random_weights=self._engine.random_weights,
            timings=self._timings(),
        )
        timings = description["timings"]
        self.record.note(
            duration_seconds=description["duration_seconds"],
            finish_reason=description["finish_reason"],
            retried_pieces=self._finished.retried_pieces,
            **description["usage"],
            **{name if name == "real_time_factor" else f"{name}_seconds": timings[name] for name in timings},
        )
        return description

    def _timings(self) -> dict[str, float]:
        """The engine's measures, which begin when it is asked, seen from the moment at which the job came in."""
        timings = dict(self._finished.timings)
        for name, before in (("reference", self._clip_seconds), ("first_audio", self._spoken_from)):
            if name in timings:
                timings[name] += before
        return {**timings, "encode": self._encode_seconds, "total": self.record.seconds}

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))

    @property
    def _finished(self) -> SpeechResult:
        assert self._speech is not None, "speak or stream first"
        return self._speech

    async def _clips(self) -> Clips:
        sources = self.parsed.request.reference_sources
        if not sources:
            return {}
        before = self.record.seconds
        resolved = partial(resolve, timeout_seconds=self.parsed.output.download_timeout)
        clips = await self.in_thread(resolved, sources, self._settings)
        self._clip_seconds = self.record.seconds - before
        self.record.note(fetch_seconds=self._clip_seconds)
        return clips

    async def _speak(self, clips: Clips) -> SpeechResult:
        cancelled = threading.Event()
        self._spoken_from = self.record.seconds
        try:
            speech = await self.in_thread(
                partial(
                    speak, self._engine, self.parsed.request, clips, cancelled=cancelled, on_progress=self._on_progress
                )
            )
            return await self.in_thread(paced, speech, self.parsed.output.speed)
        finally:
            cancelled.set()

    async def _parts(self, clips: Clips) -> AsyncGenerator[Part, None]:
        self._spoken_from = self.record.seconds
        streamer = Streamer(
            self._engine,
            self.parsed,
            clips,
            max_part_bytes=self._settings.max_stream_chunk_bytes,
            on_progress=self._on_progress,
        )
        async with aclosing(streamer.parts(self._threads)) as parts:
            async for part in parts:
                yield part
        self._speech = streamer.speech
        self._encode_seconds = streamer.encode_seconds


def _in_loop(on_progress: OnProgress | None) -> OnProgress | None:
    """`on_progress`, called from the event loop wherever it is called from."""
    if on_progress is None:
        return None
    loop, callback = asyncio.get_running_loop(), on_progress

    def report(progress: Progress) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback, progress)

    return report
