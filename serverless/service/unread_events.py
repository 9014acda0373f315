"""The events of a streamed job on their way to a reader who may be slower than the job."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from higgs_core.errors import HiggsError
from serverless.delivery.response import AudioPart, SpeechResponse, StreamEvent
from serverless.service.byte_budget import ByteBudget


class SlowReaderError(HiggsError):
    """The audio that waited for a reader was more than the worker keeps for all of them."""

    code = "reader_too_slow"

    def __init__(self) -> None:
        super().__init__(
            "The audio was not fetched as fast as it was generated, and too much of it was waiting.",
            hint="Read the stream as it comes, or ask for one answer in a compressed format.",
        )


class UnreadEvents:
    """A queue with one writer and one reader. Its bytes count in `budget`, without a bound of their own: a reader
    slower than the model costs memory, never a slot.

    on_overflow: called when this reader has left most of what is too much; it gets a SlowReaderError then.
    """

    def __init__(self, budget: ByteBudget, on_overflow: Callable[[], object]) -> None:
        self._events: deque[StreamEvent] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: HiggsError | None = None
        self._on_overflow = on_overflow
        self._hold = budget.hold(self._overflow)

    def put(self, event: StreamEvent) -> None:
        """Nothing more is kept after the end."""
        if not self._ended:
            self._events.append(event)
            self._changed.set()
            self._hold.resize(self._hold.size + _size(event))

    def end(self, error: HiggsError | None = None) -> None:
        """No event follows; the reader meets `error` after those that are there. The first end counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._changed.set()

    async def next(self) -> StreamEvent | None:
        """The next event, None after the last. Raises the error that ended them."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        event = self._events.popleft()
        self._hold.resize(self._hold.size - _size(event))
        return event

    def close(self) -> None:
        """The reader has gone."""
        self._events.clear()
        self._hold.release()
        self.end()

    def _overflow(self) -> None:
        self._events.clear()
        self._ended, self._error = True, SlowReaderError()  # also where the job had ended well
        self._changed.set()
        self._on_overflow()


def _size(event: StreamEvent) -> int:
    """Bytes, about: those of the audio."""
    if isinstance(event, AudioPart):
        return len(event.data)
    if isinstance(event, SpeechResponse):
        return event.speech.audio.nbytes + len(event.audio or b"")
    return 0
