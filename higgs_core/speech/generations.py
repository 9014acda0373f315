"""The generations of a request: the next piece's and, where pieces are spoken at the same time, those ahead of it.

Imports no torch: what starts a generation is handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from higgs_core.cancellation import CancelToken
from higgs_core.errors import BusyError, DeviceMemoryError
from higgs_core.speech.session import SpeechSession
from higgs_core.speech.whole_generation import WholeGeneration

if TYPE_CHECKING:
    from higgs_core.engine import AudioStream
    from higgs_core.params import GenerationParams
    from higgs_core.prompt.chatml import ChatMLSample

MOST_AT_ONCE = 8
"""Generations of one request. What waits ahead is kept in memory, up to 20 MB a piece."""

SHARE_OF_SLOTS = 2
"""One request has at most the slots divided by this, so that another long one and short ones find room beside it."""

SHARE_LEFT_FREE = 4
"""One slot in so many stays free of pieces ahead, of all requests together, so that another request finds one."""

TOO_MUCH_AT_ONCE = (BusyError, DeviceMemoryError)
"""What may keep a piece from being generated ahead, or again, while the request can go on."""


class Slots(Protocol):
    """The engine, as far as it says how busy it is."""

    @property
    def max_batch_size(self) -> int: ...

    def stats(self) -> dict[str, int]: ...


class Generations:
    """Starts the generations of a session's pieces in a `with` block; leaving it ends all of them.

    start: the generation of a prompt with its params.  cancel: ends all of them too.
    """

    def __init__(
        self,
        session: SpeechSession,
        start: Callable[[ChatMLSample, GenerationParams], AudioStream | WholeGeneration],
        slots: Slots,
        cancel: CancelToken,
    ) -> None:
        self._session = session
        self._start = start
        self._slots = slots
        self._cancel = cancel
        self._usable = slots.max_batch_size - slots.max_batch_size // SHARE_LEFT_FREE
        self._most = min(slots.max_batch_size // SHARE_OF_SLOTS, MOST_AT_ONCE)
        self._current: AudioStream | WholeGeneration | None = None
        self._current_is_ahead = False  # it was started while another piece was the next
        self._anew = False
        # Of the pieces after the one whose generation is in use, else of the next piece and those after it.
        self._ahead: deque[tuple[AudioStream | WholeGeneration, ExitStack]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._ahead:
            self._ahead.pop()[1].close()

    @contextmanager
    def next(self) -> Iterator[AudioStream | WholeGeneration]:
        """The next piece's generation; a new one if the piece has one that went wrong. The block's end ends it."""
        self._current_is_ahead = bool(self._ahead) and not self._session.has_attempt and not self._anew
        self._anew = False
        generation, owned = self._ahead.popleft() if self._current_is_ahead else self._started(0)
        self._current = generation
        try:
            with owned:
                self.start_ahead()
                yield generation
        finally:
            self._current = None

    def begin_anew(self) -> bool:
        """After the last generation failed: whether `next` starts another of its piece, as it does for one that was
        started ahead. Being one of many may be what was too much."""
        self._anew = self._current_is_ahead
        return self._anew

    def start_ahead(self) -> None:
        """Start pieces after the next one, as far as they may be and slots are free beyond those left to others.

        At most as many have ended and wait for their turn as are generated at once.
        """
        while len(self._ahead) < min(self._session.pieces_ahead, 2 * self._most - 1):
            running = sum(not generation.has_ended for generation in self._all())
            if running >= self._most or not self._has_free_slot():
                return
            try:
                self._ahead.append(self._started(len(self._ahead) + 1))
            except TOO_MUCH_AT_ONCE:
                return

    @property
    def columns(self) -> list[int]:
        """Generated so far of the next piece and of those after it."""
        return [generation.columns_generated for generation in self._all()]

    def _all(self) -> list[AudioStream | WholeGeneration]:
        current = [] if self._current is None else [self._current]
        return current + [generation for generation, _ in self._ahead]

    def _has_free_slot(self) -> bool:
        stats = self._slots.stats()
        return stats["active"] + stats["waiting"] < self._usable

    def _started(self, ahead: int) -> tuple[AudioStream | WholeGeneration, ExitStack]:
        """The generation of the piece that comes so many after the next, and what ends it."""
        generation = self._start(self._session.sample(ahead), self._session.params(ahead))
        owned = ExitStack()
        owned.enter_context(generation)
        owned.enter_context(self._cancel.on_cancel(generation.close))
        return generation, owned
