"""A stand-in for the engine that speaks at a given rate, and goes wrong when it is told to.

Its audio is a tone and its codes are drawn, but lengths, caps, silence, loops and time behave as a model's do, so what
the speech layer makes of them can be seen exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import HiggsError
from higgs_core.params import GenerationParams
from higgs_core.prompt.chatml import ChatMLSample, TextContent
from higgs_core.runtime.generation import GenerationResult
from higgs_core.runtime.streaming import AudioChunk
from higgs_core.text.speech_length import MAX_PIECE_WORDS, spoken_words
from tests.helpers.pieces import FRAME, looping_codes, result, silence, spoken_codes, tone

_COLUMNS_AROUND = 10  # the synthetic column, the EOS frame's and the delay's
_CHUNKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Take:
    """What one generation would be if it had all the steps it wants. sound, then silence, in frames."""

    sound: int
    silent: int = 0
    loop: int = 0

    def cut_to(self, steps: int) -> tuple[Take, bool]:
        """As much of it as fits the steps, and whether that is not all."""
        frames = max(steps - _COLUMNS_AROUND, 0)
        sound = min(self.sound, frames)
        return Take(sound, min(self.silent, frames - sound), self.loop), self.sound + self.silent > frames

    def codes(self, seed: int) -> NDArray[np.int64]:
        """int64 [8, sound + silent]; the last `loop` frames of the sound go round every second."""
        spoken = spoken_codes(self.sound - min(self.loop, self.sound), seed)
        return np.concatenate(
            [spoken, looping_codes(min(self.loop, self.sound), 25, seed), spoken_codes(self.silent, seed + 1)], axis=1
        )


Behaviour = Callable[[int], Take]
"""The frames that the words of a piece take, as a Take."""


def speaks_well(frames: int) -> Take:
    return Take(frames)


def runs_on(frames: int) -> Take:
    """Babble that never ends."""
    return Take(frames + 100_000)


def falls_silent(frames: int) -> Take:
    """The words, and then silence up to the cap."""
    return Take(frames, silent=100_000)


def never_sounds(frames: int) -> Take:
    return Take(0, silent=frames)


def says_nothing(frames: int) -> Take:
    return Take(0)


def loops(frames: int) -> Take:
    """One second of sound, again and again."""
    return Take(frames + 150, loop=frames + 100)


def says_too_little(frames: int) -> Take:
    return Take(max(frames // 8, 1))


@dataclass
class SimulatedEngine:
    """behaviours: of one generation after the other, the last one for all that follow; an error is raised instead.

    columns_per_word: how slowly it speaks.  seconds_per_frame: of its clock, that a frame takes to generate.
    asked: the samples and params that it was given.
    """

    behaviours: Sequence[Behaviour | HiggsError] = (speaks_well,)
    columns_per_word: float = 10.0
    seconds_per_frame: float = 0.004
    max_context: int = 8192
    max_piece_words: int = MAX_PIECE_WORDS
    max_batch_size: int = 8
    asked: list[tuple[ChatMLSample, GenerationParams]] = field(default_factory=list)
    seconds: float = 0.0

    def stats(self) -> dict[str, int]:
        """Never busy: what is asked for is there at once."""
        return {"active": 0, "waiting": 0}

    def clock(self) -> float:
        return self.seconds

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    @property
    def seeds(self) -> list[int | None]:
        """Of every generation."""
        return [params.seed for _, params in self.asked]

    def submit(self, sample: ChatMLSample, params: GenerationParams) -> SimulatedFuture:
        made = self._generate(sample, params)
        assert made.audio is not None
        self.seconds += len(made.audio) / FRAME * self.seconds_per_frame
        future = SimulatedFuture()
        future.set_result(made)
        return future

    def stream(self, sample: ChatMLSample, params: GenerationParams) -> SimulatedStream:
        return SimulatedStream(self, self._generate(sample, params))

    def _generate(self, sample: ChatMLSample, params: GenerationParams) -> GenerationResult:
        behaviour = self.behaviours[min(len(self.asked), len(self.behaviours) - 1)]
        self.asked.append((sample, params))
        if isinstance(behaviour, HiggsError):
            raise behaviour
        words = spoken_words(text_of(sample))
        take, cut_off = behaviour(math.ceil(words * self.columns_per_word)).cut_to(params.max_new_tokens)
        frames = take.sound + take.silent
        return result(
            audio=np.concatenate([tone(take.sound, seed=params.seed or 0), silence(take.silent)]),
            codes=[take.codes(params.seed or 0)] if frames else [],
            finish_reason="length" if cut_off else "stop",
            seed=params.seed,
            usage={
                "prompt_tokens": 5,
                "completion_tokens": params.max_new_tokens if cut_off else frames + _COLUMNS_AROUND,
                "total_tokens": 5,
                "cached_tokens": 0,
            },
        )


class SimulatedFuture(Future[GenerationResult]):
    columns_generated = 0


class SimulatedStream:
    """Chunks that double in length, each of them there when the engine's clock says so."""

    def __init__(self, engine: SimulatedEngine, made: GenerationResult) -> None:
        self._engine = engine
        self._made = made
        self._chunks = self._cut()
        self.columns_generated = 0
        self.has_ended = True
        self.result: GenerationResult | None = None

    def _cut(self) -> Iterator[AudioChunk]:
        audio: Any = self._made.audio
        start = at = 0
        while start < len(audio):
            size = _CHUNKS[min(at, len(_CHUNKS) - 1)] * FRAME
            chunk = audio[start : start + size]
            self._engine.seconds += len(chunk) / FRAME * self._engine.seconds_per_frame
            yield AudioChunk(chunk, start, is_last=False)
            start, at = start + size, at + 1
        self.result = self._made
        yield AudioChunk(np.zeros(0, np.float32), len(audio), is_last=True)

    def __iter__(self) -> Iterator[AudioChunk]:
        return self._chunks

    def close(self) -> None:
        pass

    def __enter__(self) -> SimulatedStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def text_of(sample: ChatMLSample) -> str:
    """The words of the last turn."""
    return "".join(part.text for part in sample.messages[-1].parts if isinstance(part, TextContent))
