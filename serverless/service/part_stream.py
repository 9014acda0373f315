"""Encodes speech while it is generated: a thread generates and encodes, the event loop takes the parts."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from higgs_core.audio import FORMATS, StreamEncoder
from higgs_core.cancellation import CancelToken
from higgs_core.errors import EngineStoppedError
from higgs_core.rates import SAMPLING_RATE
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.progress import OnProgress
from higgs_core.speech.request import Clips
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import stream_speech
from serverless.delivery.response import AudioPart
from serverless.service.effects import chunks_with_effects
from serverless.service.piece_texts import PieceTexts

if TYPE_CHECKING:
    from higgs_core.engine import HiggsAudioEngine
    from serverless.payload.parse import ParsedJob

WIDEST_SAMPLE_BYTES = 4  # float32; every other encoding takes less

_ENDED = "The thread of this stream was ended; this worker is being replaced."


class PartStream:
    """One request's speech in parts of at most `max_part_bytes`, in an `async with` block; leaving it cancels the rest.

    context: what earlier requests spoke and this one continues, see SpeechSession.
    live: False for a reader who plays nothing before the last part: the speech is that of an answer in one piece.
    After the last part `speech` is the result and `encode_seconds` the time that encoding took.
    """

    def __init__(
        self,
        engine: HiggsAudioEngine,
        parsed: ParsedJob,
        clips: Clips,
        *,
        threads: Executor,
        max_part_bytes: int,
        on_progress: OnProgress | None,
        context: PieceContext | None = None,
        live: bool = True,
    ) -> None:
        self._engine = engine
        self._request = parsed.request
        self._output = parsed.output
        self._format = FORMATS[parsed.output.response_format]
        self._clips = clips
        self._threads = threads
        self._max_part_bytes = max_part_bytes
        self._on_progress = on_progress
        self._context = context
        self._live = live and self._format.streams
        self._cancel = CancelToken()
        self._loop = asyncio.get_running_loop()
        # Not bounded: a reader slower than the model costs the memory of one encoded utterance, never a slot.
        self._encoded: asyncio.Queue[AudioPart | BaseException | None] = asyncio.Queue()
        self._work: Future[None] | None = None
        self._parts = 0
        self.speech: SpeechResult | None = None
        self.encode_seconds = 0.0

    async def __aenter__(self) -> Self:
        self._work = self._threads.submit(self._run)
        self._work.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cancel.cancel()
        if self._work is not None:
            self._work.cancel()  # where no thread has taken it up yet

    async def next_part(self) -> AudioPart | None:
        """The next part, None after the last. Raises what generating and encoding raise."""
        item = await self._encoded.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self) -> None:
        """In a thread: generate and encode everything, then tell the event loop that it was all, or what failed."""
        try:
            self._generate()
        except Exception as error:
            self._put(error)
        except BaseException:  # in the event loop it would end the process
            self._put(EngineStoppedError(_ENDED))
            raise
        else:
            self._put(None)

    def _ended(self, work: Future[None]) -> None:
        """A service that closes cancels what no thread has begun: `_run` will never say anything then."""
        if work.cancelled():
            self._put(EngineStoppedError(_ENDED))

    def _generate(self) -> None:
        chunks = stream_speech(
            self._engine,
            self._request,
            self._clips,
            cancel=self._cancel,
            on_progress=self._on_progress,
            context=self._context,
            speed=self._output.speed,
            live=self._live,
        )
        encoder = StreamEncoder(self._output.response_format, self._output.wav_encoding)
        samples_at_once = max(self._max_part_bytes // WIDEST_SAMPLE_BYTES, 1)
        part_start = 0  # the first sample that was encoded since the part before
        part_begun = False
        texts = PieceTexts(self._output.speed)
        part_texts: list[str] = []
        try:
            for chunk in chunks_with_effects(texts.noted(chunks), self._output, live=self._live):
                if chunk.result is not None:
                    self.speech = chunk.result
                start = chunk.start_sample
                for first, last in texts.cut(start, start + len(chunk.audio), samples_at_once):
                    part_texts += texts.take(first)
                    if not part_begun:
                        part_start, part_begun = first, True
                    before = time.perf_counter()
                    data = encoder.write(chunk.audio[first - start : last - start])
                    self.encode_seconds += time.perf_counter() - before
                    if data:
                        self._put_parts(data, part_start, part_texts)
                        part_begun, part_texts = False, []
            before = time.perf_counter()
            data = encoder.finish()
            self.encode_seconds += time.perf_counter() - before
            self._put_parts(data, part_start, part_texts + texts.take(math.inf))
        finally:
            encoder.close()

    def _put_parts(self, data: bytes, start_sample: int, texts: Sequence[str]) -> None:
        """texts: of the pieces that begin in the data; the first part of it tells them."""
        text = " ".join(texts) if texts else None
        for first in range(0, len(data), self._max_part_bytes):
            part = data[first : first + self._max_part_bytes]
            self._put(AudioPart(self._parts, part, start_sample / SAMPLING_RATE, self._format, text))
            self._parts += 1
            text = None

    def _put(self, item: AudioPart | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, and whoever waited went with it
            self._loop.call_soon_threadsafe(self._encoded.put_nowait, item)
