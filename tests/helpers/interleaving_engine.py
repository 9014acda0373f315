"""A stand-in for the engine that works on several generations at a time, in an order that a seed draws.

No thread and no clock: whoever waits for one generation moves the others on as well, one step at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from higgs_core.errors import GenerationCancelled, HiggsError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import ChatMLSample
from higgs_core.runtime.generation import GenerationResult
from higgs_core.runtime.streaming import AudioChunk
from higgs_core.text.speech_length import MAX_PIECE_WORDS, spoken_words
from tests.helpers.pieces import FRAME, result, spoken_codes, tone
from tests.helpers.simulated_engine import Behaviour, speaks_well, text_of

_CHUNK = 5 * FRAME


@dataclass
class InterleavingEngine:
    """order: draws which generation moves on next.  behaviour: of a piece's text and seed, or the error it ends in.

    others: slots that other requests occupy.  refuse: called before a generation starts, may raise.
    started: all generations, in the order in which they were asked for.
    """

    order: Random
    behaviour: Callable[[str, int], Behaviour | HiggsError] = lambda text, seed: speaks_well
    max_batch_size: int = 8
    others: int = 0
    refuse: Callable[[InterleavingEngine], None] = lambda engine: None
    max_context: int = 8192
    max_piece_words: int = MAX_PIECE_WORDS
    started: list[Running] = field(default_factory=list)
    most_at_once: int = 0

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def stats(self) -> dict[str, int]:
        return {"active": self.others + len(self.running), "waiting": 0}

    @property
    def running(self) -> list[Running]:
        return [each for each in self.started if not each.has_ended]

    def submit(self, sample: ChatMLSample, params: GenerationParams) -> Running:
        self.refuse(self)
        self.started.append(Running(self, sample, params))
        self.most_at_once = max(self.most_at_once, len(self.running))
        return self.started[-1]

    stream = submit

    def step(self) -> None:
        self.order.choice(self.running).step()


class Running:
    """One generation, as a future and as a stream. It ends after a drawn number of steps."""

    def __init__(self, engine: InterleavingEngine, sample: ChatMLSample, params: GenerationParams) -> None:
        self.sample, self.params = sample, params
        self.text = text_of(sample)
        self._engine = engine
        self._error: HiggsError | None = None
        self._made: GenerationResult | None = None
        behaviour = engine.behaviour(self.text, params.seed or 0)
        if isinstance(behaviour, HiggsError):
            self._error, frames = behaviour, 4
        else:
            take, cut_off = behaviour(math.ceil(10 * spoken_words(self.text))).cut_to(params.max_new_tokens)
            frames = take.sound
            self._made = result(
                audio=tone(frames, seed=params.seed or 0),
                codes=[spoken_codes(frames, params.seed or 0)],
                finish_reason="length" if cut_off else "stop",
                seed=params.seed,
                text=f"<{self.text}>",
            )
        self._steps = self._all_steps = math.ceil(frames * FRAME / _CHUNK)
        self._taken = 0  # samples of a stream
        self.cancelled = False
        self.result_of_stream: GenerationResult | None = None

    @property
    def has_ended(self) -> bool:
        return self.cancelled or self._steps == 0

    @property
    def columns_generated(self) -> int:
        return (self._all_steps - self._steps) * _CHUNK // FRAME

    def step(self) -> None:
        self._steps -= 1

    def _raise(self) -> None:
        if self.cancelled:
            raise GenerationCancelled("The request was cancelled.")
        if self._error is not None and self.has_ended:
            raise self._error

    # As a future.

    def done(self) -> bool:
        return self.has_ended

    def exception(self, timeout: float | None) -> None:
        while not self.has_ended:
            self._engine.step()
            if timeout is not None and not self.has_ended:
                raise TimeoutError
        self._raise()

    def cancel(self) -> None:
        self.cancelled = self.cancelled or not self.has_ended

    # As both: a future's `result` is a method, a stream's an attribute.

    @property
    def result(self) -> Callable[[], GenerationResult | None] | GenerationResult | None:
        return self.result_of_stream if self.result_of_stream is not None else lambda: self._made

    # As a stream.

    def __iter__(self) -> Iterator[AudioChunk]:
        assert self._made is None or self._made.audio is not None
        while True:
            while not self.has_ended and (self._all_steps - self._steps) * _CHUNK <= self._taken:
                self._engine.step()
            self._raise()
            assert self._made is not None
            assert self._made.audio is not None
            chunk = self._made.audio[self._taken : (self._all_steps - self._steps) * _CHUNK]
            self._taken += len(chunk)
            if not len(chunk):
                self.result_of_stream = self._made
                return
            yield AudioChunk(chunk, self._taken - len(chunk), is_last=False)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def close(self) -> None:
        self.cancel()
