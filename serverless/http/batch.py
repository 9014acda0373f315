"""POST /v1/audio/speech/batch: several texts in one request, spoken at the same time, answered in their order."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from higgs_core.audio import encode_audio
from higgs_core.errors import BusyError, HiggsError, RequestError
from serverless.delivery.response import Accepted, AudioPart, SpeechResponse
from serverless.delivery.serialise import describe, upload_json
from serverless.http.disconnect import LiveResponse
from serverless.http.errors import HttpProblem, note_refusal, openai_envelope
from serverless.http.guard import require_key
from serverless.http.jobs import require_room
from serverless.http.models import require_model
from serverless.http.openai import openai_usage
from serverless.payload.batch import BATCH_ROUTE, batch_items, item_body
from serverless.payload.openai import SPEECH_ROUTE
from serverless.service.unread_events import SlowReaderError

router = APIRouter(dependencies=[Depends(require_key)])

_TOLD = (
    *("seed", "finish_reason", "duration_seconds", "timings", "chunks", "warnings"),
    *("generated_audio_tokens", "generated_text_tokens"),
)
_BYTES_AT_ONCE = 3 * 65_536  # base64 of a multiple of three bytes has no padding inside


@dataclass(frozen=True, eq=False)
class Spoken:
    """An item that was spoken. described: what its entry says beside the audio."""

    audio: bytes
    described: dict[str, Any]


@router.post(BATCH_ROUTE)
async def batch(request: Request) -> Response:
    """Speak every item; the answer has an entry for each, with its audio in base64 or its own error."""
    require_room(request)
    body = await request.app.state.bodies.read(request)
    run = BatchRun(request, body, batch_items(body))
    entries = run.entries()
    return LiveResponse(_json(run.id, entries), holds=entries, media_type="application/json")


class BatchRun:
    """One batch on its way. `entries` runs it, once; closing the iterator ends what still runs."""

    def __init__(self, request: Request, body: dict[str, Any], items: tuple[object, ...]) -> None:
        self.id = f"batch-{request.state.request_id}"
        self._request = request
        self._body = body
        self._items = items
        self._service = request.app.state.service
        self._share = request.app.state.batch_places.share()
        self._limit: int = request.app.state.settings.max_batch_bytes
        self._size = 0  # bytes of audio of all items so far
        self._tasks: deque[asyncio.Task[Spoken]] = deque()  # those whose entries have not left
        self._given_up = False

    async def entries(self) -> AsyncGenerator[Spoken | HiggsError, None]:
        """What became of each item, in the order of the items."""
        self._hold = self._service.unread.hold(self._let_go)  # here, for entries that nobody reads are never closed
        try:
            self._tasks.extend(asyncio.create_task(self._item(index)) for index in range(len(self._items)))
            while self._tasks:
                await asyncio.wait({self._tasks[0]})
                entry = self._outcome(self._tasks.popleft())
                yield entry
                if isinstance(entry, Spoken):
                    self._hold.resize(max(0, self._hold.size - len(entry.audio)))
                del entry  # its audio is kept by nobody now
        finally:
            self._hold.release()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _outcome(self, task: asyncio.Task[Spoken]) -> Spoken | HiggsError:
        if self._given_up or task.cancelled():
            return SlowReaderError()
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, HiggsError):
            return error
        raise error

    async def _item(self, index: int) -> Spoken:
        """Raises HiggsError."""
        try:
            body = item_body(self._body, self._items[index], index)
            require_model(body.get("model"), self._service.model_name)
        except (HttpProblem, RequestError) as error:
            note_refusal(self._request, error)  # no job has begun that would
            raise
        while True:
            async with self._share.place() as start:
                job_id = f"{self._request.state.request_id}-{index}"
                job_input = {"openai_route": SPEECH_ROUTE, "openai_input": body}
                async with aclosing(self._service.stream(job_input, job_id=job_id, live=False)) as events:
                    try:
                        accepted = cast(Accepted, await anext(events))
                    except BusyError:  # another request took the place in the same moment
                        continue
                    start()
                    return await self._spoken(accepted, events)

    async def _spoken(self, accepted: Accepted, events: AsyncIterator[AudioPart | SpeechResponse]) -> Spoken:
        parts: list[bytes] = []
        try:
            async for event in events:
                if isinstance(event, AudioPart):
                    parts.append(event.data)
                    self._grow(len(event.data))
                else:
                    response = event
        except HiggsError:
            self._hold.resize(max(0, self._hold.size - sum(map(len, parts))))
            raise
        output = response.job.output
        if output.response_format == "wav":  # the header of a stream states no length
            audio = await asyncio.to_thread(encode_audio, response.speech.audio, "wav", output.wav_encoding)
        else:
            audio = b"".join(parts)
        description = await asyncio.to_thread(describe, response)
        told = {name: description[name] for name in _TOLD if name in description}
        described = {"media_type": accepted.audio_format.mime_type, "usage": openai_usage(response), **told}
        return Spoken(audio, described | upload_json(response))

    def _grow(self, more: int) -> None:
        self._size += more
        self._hold.resize(self._hold.size + more)
        if self._size > self._limit:
            raise HttpProblem(
                "batch_too_large",
                f"The audio of the batch is over the limit of {self._limit} bytes.",
                hint="Send fewer or shorter items, or ask for a compressed format.",
            )

    def _let_go(self) -> None:
        """Too much audio waits for its readers, and most of it here."""
        self._given_up = True
        for task in self._tasks:
            task.cancel()


async def _json(batch_id: str, entries: AsyncGenerator[Spoken | HiggsError, None]) -> AsyncGenerator[bytes]:
    """The answer in parts, each entry as soon as it and those before it are there."""
    succeeded = failed = 0
    yield f'{{"id": {json.dumps(batch_id)}, "object": "audio.speech.batch", "results": ['.encode()
    async for entry in entries:
        index = succeeded + failed
        if index:
            yield b", "
        if isinstance(entry, Spoken):
            succeeded += 1
            start = json.dumps({"index": index, "status": "success", **entry.described}, allow_nan=False)
            yield f'{start[:-1]}, "audio_data": "'.encode()
            for first in range(0, len(entry.audio), _BYTES_AT_ONCE):
                yield base64.b64encode(entry.audio[first : first + _BYTES_AT_ONCE])
            yield b'"}'
        else:
            failed += 1
            yield json.dumps({"index": index, "status": "error", **openai_envelope(entry)}).encode()
    yield f'], "total": {succeeded + failed}, "succeeded": {succeeded}, "failed": {failed}}}'.encode()
