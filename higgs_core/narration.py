"""A request on its way from piece to piece: what the next piece hears of the earlier ones, and what they add up to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgs_core.chatml import AudioContent, ChatMLSample, Message
from higgs_core.chunking import count_words
from higgs_core.conversation import Plan, spoken_turns
from higgs_core.errors import ModelLoadError, NoAudioError
from higgs_core.params import MAX_SEED, GenerationParams
from higgs_core.request import SpeechRequest

if TYPE_CHECKING:
    from higgs_core.engine import GenerationResult

FRAMES_PER_SECOND = 25
_COLUMNS_PER_WORD = 10  # 150 words a minute: only a guess at how far a running piece is
_MOST_OF_A_PIECE = 0.95  # what a guess may claim before the piece has ended
_SAMPLES_PER_FRAME = 960
_POSITIONS_AROUND = 12  # control tokens of a turn, and a clip's delay
_POSITIONS_OF_UNKNOWN_CLIP = 60 * FRAMES_PER_SECOND


@dataclass(frozen=True)
class SpokenPiece:
    """One piece of the script and where its speech lies in the result."""

    text: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, eq=False)
class SpeechResult:
    """A spoken request, its pieces joined.

    audio: float32 [N].  audio_codes: int64 [8, T], one a segment of audio, all pieces in order.
    usage: summed.  finish_reason: "length" if any piece was cut off.  seed: makes the same speech again.
    timings: seconds, summed; first_audio is the first piece's.
    """

    audio: np.ndarray[Any, np.dtype[np.float32]]
    sampling_rate: int
    audio_codes: list[np.ndarray[Any, Any]]
    text: str
    text_token_ids: list[int]
    usage: dict[str, int]
    finish_reason: str
    seed: int
    timings: dict[str, float]
    pieces: tuple[SpokenPiece, ...]
    warnings: tuple[str, ...]


def piece_seed(seed: int, index: int) -> int:
    """The seed of a request's index-th piece; the first one has the request's own."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) & MAX_SEED


class Narration:
    """Walks through a plan: `sample` and `params` for the next piece, `add` its result, `result` after the last.

    max_context: the engine's positions for prompt and speech; earlier pieces are heard again as far as they fit.
    """

    def __init__(self, request: SpeechRequest, plan: Plan, max_context: int) -> None:
        self._plan = plan
        self._max_context = max_context
        self._params = request.params
        self._buffer_size = request.generation_chunk_buffer_size
        self._words = [max(count_words(piece), 1.0) for piece in plan.pieces]
        self._earlier: list[tuple[Message, Message]] = []
        self._results: list[GenerationResult] = []
        self._first_with_less_context: int | None = None

    @property
    def index(self) -> int:
        """The piece that comes next."""
        return len(self._results)

    @property
    def goes_on(self) -> bool:
        return self.index < len(self._plan.pieces)

    @property
    def samples(self) -> int:
        """Length of the audio so far."""
        return sum(_length(result) for result in self._results)

    @property
    def seconds(self) -> float:
        return self.samples / self._results[0].sampling_rate if self._results else 0.0

    def sample(self) -> ChatMLSample:
        while self._earlier and self._positions() > self._max_context:
            del self._earlier[0]
            if self._buffer_size is not None and self._first_with_less_context is None:
                self._first_with_less_context = self.index + 1
        return self._plan.sample(self.index, self._earlier)

    def _positions(self) -> int:
        """At most this much of the context goes to the next piece, if it is not spoken very slowly."""
        prompt = sum(_positions_of(message) for message in self._plan.sample(self.index, self._earlier).messages)
        return prompt + min(self._params.max_new_tokens, int(2 * self._expected_columns()))

    def _expected_columns(self) -> float:
        return min(self._words[self.index] * _COLUMNS_PER_WORD, self._params.max_new_tokens)

    def params(self) -> GenerationParams:
        if self.index == 0:
            return self._params
        return replace(self._params, seed=piece_seed(self._results[0].seed, self.index))

    def share(self, columns: int) -> float:
        """How much of the request is done, 0 to 1, when the piece that comes next has this many columns."""
        if not self.goes_on:
            return 1.0
        running = self._words[self.index] * min(columns / self._expected_columns(), _MOST_OF_A_PIECE)
        return (sum(self._words[: self.index]) + running) / sum(self._words)

    def add(self, result: GenerationResult) -> None:
        """Raises ModelLoadError when the engine made codes but has no codec to make them heard."""
        frames = sum(codes.shape[1] for codes in result.audio_codes)
        if frames and result.audio is None:
            raise ModelLoadError(
                "The engine was loaded without an audio tokenizer, so it cannot make audio of its codes."
            )
        if frames:
            codes = np.concatenate(result.audio_codes, axis=1)
            self._earlier.append(spoken_turns(self._plan.turns[self.index], codes))
        if self._buffer_size is not None:
            self._earlier = self._earlier[len(self._earlier) - min(len(self._earlier), max(self._buffer_size, 0)) :]
        self._results.append(result)

    def result(self) -> SpeechResult:
        """Raises NoAudioError when no piece has a complete frame."""
        first = self._results[0]
        audio = [result.audio for result in self._results if result.audio is not None]
        if self.samples == 0:
            raise NoAudioError("Model did not return audio tokens.")
        return SpeechResult(
            audio=np.concatenate(audio),
            sampling_rate=first.sampling_rate,
            audio_codes=[codes for result in self._results for codes in result.audio_codes],
            text="".join(result.text for result in self._results),
            text_token_ids=[token for result in self._results for token in result.text_token_ids],
            usage=_summed(result.usage for result in self._results),
            finish_reason="length" if self._cut_off() else "stop",
            seed=first.seed,
            timings=_summed(result.timings for result in self._results)
            | {name: first.timings[name] for name in ("first_audio",) if name in first.timings},
            pieces=self._pieces(),
            warnings=(*self._plan.warnings, *self._warnings()),
        )

    def _pieces(self) -> tuple[SpokenPiece, ...]:
        pieces = []
        start = 0
        for text, result in zip(self._plan.pieces, self._results, strict=True):
            end = start + _length(result)
            pieces.append(SpokenPiece(text, start / result.sampling_rate, end / result.sampling_rate))
            start = end
        return tuple(pieces)

    def _cut_off(self) -> list[int]:
        return [at for at, result in enumerate(self._results, start=1) if result.finish_reason == "length"]

    def _warnings(self) -> list[str]:
        warnings = []
        by_cap: list[int] = []
        by_context: list[int] = []
        for at in self._cut_off():
            capped = self._results[at - 1].usage["completion_tokens"] >= self._params.max_new_tokens
            (by_cap if capped else by_context).append(at)
        shorter = "" if len(self._results) == 1 else " or lower chunk_max_word_num"
        if by_cap:
            steps = self._params.max_new_tokens
            seconds = f"{steps / FRAMES_PER_SECOND:.0f} s"
            warnings.append(
                f"{self._named(by_cap)} cut off at max_new_tokens={steps} ({seconds}); raise max_new_tokens{shorter}."
            )
        if by_context:
            warnings.append(
                f"{self._named(by_context)} cut off where the context of {self._max_context} positions was full; "
                f"use fewer or shorter references{shorter}."
            )
        if silent := [at for at, result in enumerate(self._results, start=1) if _length(result) == 0]:
            warnings.append(f"{self._named(silent)} left without audio by the model; another seed may help.")
        if self._first_with_less_context is not None:
            warnings.append(
                f"From piece {self._first_with_less_context} on, fewer earlier pieces than "
                f"generation_chunk_buffer_size={self._buffer_size} were kept as context, because more would not fit."
            )
        return warnings

    def _named(self, pieces: list[int]) -> str:
        if len(self._results) == 1:
            return "The speech was"
        numbers = ", ".join(map(str, pieces))
        return f"Piece {numbers} of {len(self._results)} was" if len(pieces) == 1 else f"Pieces {numbers} were"


def _positions_of(message: Message) -> int:
    """An upper bound of a turn's positions in the context: a token of text has at least a byte."""
    positions = _POSITIONS_AROUND
    for part in message.parts:
        if not isinstance(part, AudioContent):
            positions += len(part.text.encode())
        elif part.codes is not None:
            positions += np.shape(part.codes)[1] + _POSITIONS_AROUND
        elif part.waveform is not None:
            positions += len(part.waveform) // _SAMPLES_PER_FRAME + _POSITIONS_AROUND
        else:
            positions += _POSITIONS_OF_UNKNOWN_CLIP
    return positions


def _length(result: GenerationResult) -> int:
    return 0 if result.audio is None else len(result.audio)


def _summed(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
