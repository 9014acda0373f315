"""Speech as it is generated: a thread that speaks and encodes, and the event loop that hands its parts on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from higgs_core.audio import FORMATS, StreamEncoder
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.speak import Progress, SpeechResult, stream_speech
from serverless.service.time_stretch import paced_chunks

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from higgs_core.prompt.chatml import AudioContent
    from higgs_core.speech.request import ReferenceSource
    from serverless.payload.parse import ParsedJob

WIDEST_SAMPLE_BYTES = 4  # float32; every other encoding takes less


@dataclass(frozen=True)
class Part:
    """A piece of the encoded file; all parts joined are the file.

    start_seconds: where in the audio the samples begin that went in since the part before.
    """

    data: bytes
    start_seconds: float


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class Streamer:
    """One utterance in parts of at most `max_part_bytes`. Use `parts` once, inside `contextlib.aclosing`.

    After the last part `speech` holds the result and `encode_seconds` the time that encoding took. Closing early makes
    the decode loop stop within a few steps.
    """

    def __init__(
        self,
        engine: HiggsAudioEngine,
        parsed: ParsedJob,
        clips: Mapping[ReferenceSource, AudioContent],
        *,
        max_part_bytes: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._engine = engine
        self._parsed = parsed
        self._clips = clips
        self._max_part_bytes = max_part_bytes
        self._on_progress = on_progress
        self._cancelled = threading.Event()
        self.speech: SpeechResult | None = None
        self.encode_seconds = 0.0

    async def parts(self, threads: Executor) -> AsyncGenerator[Part, None]:
        """Yield the parts while a thread of `threads` makes them. Raises what speaking and encoding raise."""
        loop = asyncio.get_running_loop()
        # Not bounded: a reader slower than the model costs the memory of one encoded utterance, never a slot.
        made: asyncio.Queue[Part | _End] = asyncio.Queue()

        def put(item: Part | _End) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(made.put_nowait, item)

        def make() -> None:
            try:
                for part in self._encoded():
                    put(part)
            except BaseException as error:
                put(_End(error))
            else:
                put(_End())

        making = threads.submit(make)
        try:
            while isinstance(item := await made.get(), Part):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            self._cancelled.set()
            making.cancel()

    def _encoded(self) -> Iterator[Part]:
        output = self._parsed.output
        encoder = StreamEncoder(output.response_format, output.wav_encoding)
        step = max(self._max_part_bytes // WIDEST_SAMPLE_BYTES, 1)
        since = 0  # the first sample that went in after the part before
        pending = False
        chunks = paced_chunks(
            stream_speech(
                self._engine,
                self._parsed.request,
                self._clips,
                cancelled=self._cancelled,
                on_progress=self._on_progress,
                speed=output.speed,
                live=FORMATS[output.response_format].streams,
            ),
            output.speed,
        )
        try:
            for chunk in chunks:
                if chunk.result is not None:
                    self.speech = chunk.result
                for first in range(0, len(chunk.audio), step):
                    if not pending:
                        since, pending = chunk.start_sample + first, True
                    before = time.perf_counter()
                    data = encoder.write(chunk.audio[first : first + step])
                    self.encode_seconds += time.perf_counter() - before
                    if data:
                        yield from self._split(data, since)
                        pending = False
            before = time.perf_counter()
            data = encoder.finish()
            self.encode_seconds += time.perf_counter() - before
            yield from self._split(data, since)
        finally:
            encoder.close()

    def _split(self, data: bytes, start_sample: int) -> Iterator[Part]:
        for first in range(0, len(data), self._max_part_bytes):
            yield Part(data[first : first + self._max_part_bytes], start_sample / SAMPLING_RATE)
