"""Speaks the sentences of a live session, one after the other. Each is a job; its audio leaves as it is generated."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from higgs_core.errors import BusyError, EngineStoppedError, HiggsError, ModelLoadError
from higgs_core.rates import SAMPLING_RATE
from serverless.delivery.response import AudioPart, SpeechResponse
from serverless.delivery.serialise import describe
from serverless.http.live.channel import FAILED, POLICY, TRY_LATER, Channel, Closing
from serverless.http.live.utterance import Utterance
from serverless.service.unread_events import SlowReaderError

if TYPE_CHECKING:
    from serverless.service.service import SpeechService

BUSY_SECONDS = 10.0
"""How long a sentence waits for a place among the worker's jobs; then the session ends."""
_SECONDS_BETWEEN_TRIES = 0.1
_TOLD_AT_THE_END = ("seed", "finish_reason", "duration_seconds", "usage", "warnings", "generated_audio_tokens")
_ENDS_A_SESSION: dict[type[HiggsError], int] = {
    BusyError: TRY_LATER,
    ModelLoadError: TRY_LATER,
    EngineStoppedError: FAILED,
    SlowReaderError: POLICY,
}


class SessionEnded(Exception):
    """An error after which no sentence of the session can be spoken."""

    def __init__(self, closing: Closing) -> None:
        super().__init__(closing.reason)
        self.closing = closing


class Speaker:
    """`speak` is called for one sentence at a time; `silence` ends it from another task within a few decode steps."""

    def __init__(self, service: SpeechService, channel: Channel, session_id: str) -> None:
        self._service = service
        self._channel = channel
        self._session_id = session_id
        self._sentence: asyncio.Task[SpeechResponse] | None = None
        self._bytes = 0  # of the sentence, sent
        self._seconds = 0.0  # of its audio, sent
        self._told: frozenset[str] = frozenset()  # warnings that every sentence would repeat

    @property
    def is_speaking(self) -> bool:
        return self._sentence is not None

    def silence(self) -> None:
        """Stop the sentence that is being spoken, if any."""
        if self._sentence is not None:
            self._sentence.cancel()

    async def speak(self, utterance: Utterance) -> None:
        """Speak the next sentence of the utterance. Raises SessionEnded."""
        index, text, job_input = utterance.begin_sentence()
        voicing = utterance.voicing
        where = {"utterance_index": utterance.index, "sentence_index": index}
        await self._channel.send(
            {
                "type": "audio.start",
                **where,
                "sentence_text": text,
                "format": voicing.response_format,
                "sample_rate": SAMPLING_RATE,
            }
        )
        self._bytes, self._seconds = 0, 0.0
        response, error = await self._finished(utterance, index, job_input)
        done: dict[str, Any] = {"type": "audio.done", **where, "total_bytes": self._bytes, "error": error is not None}
        if response is not None:
            description = describe(response)
            done |= {name: description[name] for name in _TOLD_AT_THE_END if name in description}
            done["warnings"] = [each for each in done["warnings"] if each not in self._told]
            built_in = self._service.built_in
            self._told = voicing.known_warnings | ({built_in.notice} if built_in is not None else set())
            utterance.spoke(text, response.duration_seconds, whole=True)
        elif self._bytes:
            utterance.spoke(text, self._seconds, whole=False)
        if error is not None:
            await self._channel.send_error(error, **where)
        elif response is None:
            done["cancelled"] = True
        await self._channel.send(done)
        for kind, code in _ENDS_A_SESSION.items():
            if isinstance(error, kind):
                raise SessionEnded(Closing(code, error.message))

    async def _finished(
        self, utterance: Utterance, index: int, job_input: dict[str, Any]
    ) -> tuple[SpeechResponse | None, HiggsError | None]:
        """The sentence's response; neither a response nor an error when it was silenced."""
        if utterance.cancelled:  # while the message left that begins it
            return None, None
        self._sentence = asyncio.create_task(
            self._play(utterance, f"{self._session_id}-{utterance.index}-{index}", job_input)
        )
        try:
            await asyncio.wait({self._sentence})
            if self._sentence.cancelled():
                return None, None
            return self._sentence.result(), None
        except HiggsError as error:
            return None, error
        finally:
            self._sentence.cancel()
            await asyncio.gather(self._sentence, return_exceptions=True)
            self._sentence = None

    async def _play(self, utterance: Utterance, job_id: str, job_input: dict[str, Any]) -> SpeechResponse:
        """Generate, and send what comes. A worker that is full is asked again for a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BUSY_SECONDS
        while self._service.full and self._service.ready and loop.time() < deadline:
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
        response: SpeechResponse | None = None
        stream = self._service.stream(job_input, job_id=job_id, context=utterance.voicing.context)
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, AudioPart) and event.data:
                    await self._send(event.data, utterance.voicing.bytes_per_second, event.start_seconds)
                elif isinstance(event, SpeechResponse):
                    response = event
        assert response is not None  # otherwise something was raised
        if response.audio is not None:
            await self._send(response.audio, None, response.duration_seconds)
        return response

    async def _send(self, data: bytes, bytes_per_second: int | None, seconds: float) -> None:
        """seconds: where in the audio a part of unknown length begins."""
        await self._channel.send_audio(data)
        self._bytes += len(data)
        self._seconds = self._bytes / bytes_per_second if bytes_per_second else seconds
