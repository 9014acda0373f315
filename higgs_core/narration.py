"""A request on its way from piece to piece: what each is given, which generation of it is kept, what all add up to.

A piece that went wrong is generated again, and is never part of what the next one hears.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.attempt import Attempt, FinishedPiece, judge
from higgs_core.chatml import ChatMLSample, Message
from higgs_core.conversation import Plan, spoken_turns
from higgs_core.errors import NoAudioError
from higgs_core.params import MAX_SEED, GenerationParams, draw_seed
from higgs_core.piece_context import PieceContext
from higgs_core.piece_warnings import warnings_about
from higgs_core.prompt_size import CountTokens, most_positions, utf8_length
from higgs_core.request import SpeechRequest
from higgs_core.speech_length import speech_length, timed_words

if TYPE_CHECKING:
    from higgs_core.engine import GenerationResult

_COLUMNS_PER_WORD = 10  # 150 words a minute: only a guess at how far a running piece is
_MOST_OF_A_PIECE = 0.95  # what a guess may claim before the piece has ended


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
    usage: summed over everything that was generated.  finish_reason: "length" if any piece was cut off.
    seed: makes the same speech again, sent with the same `retries`.
    timings: seconds, summed; first_audio is the first piece's.  retried_pieces: how many were generated again.
    """

    audio: NDArray[np.float32]
    sampling_rate: int
    audio_codes: list[NDArray[Any]]
    text: str
    text_token_ids: list[int]
    usage: dict[str, int]
    finish_reason: str
    seed: int
    timings: dict[str, float]
    pieces: tuple[SpokenPiece, ...]
    warnings: tuple[str, ...]
    retried_pieces: int = 0


def piece_seed(seed: int, index: int) -> int:
    """The seed of a request's index-th piece; the first one has the request's own."""
    return seed if index == 0 else _derived(f"{seed}/{index}")


def retry_seed(seed: int, attempt: int) -> int:
    """The seed of a piece's attempt-th generation; the first one has the piece's own."""
    return seed if attempt == 0 else _derived(f"{seed}/again/{attempt}")


def _derived(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) & MAX_SEED


class Narration:
    """Walks through a plan: `sample` and `params` for the next generation, `add` its result, `result` after the last.

    max_context: the engine's positions for prompt and speech; earlier pieces are heard again as far as they fit.
    """

    def __init__(
        self, request: SpeechRequest, plan: Plan, max_context: int, count_tokens: CountTokens = utf8_length
    ) -> None:
        self._request = request
        self._plan = plan
        self._max_context = max_context
        self._count_tokens = count_tokens
        self._params = request.params
        self._seed = draw_seed() if request.params.seed is None else request.params.seed
        self._words = [max(timed_words(piece), 1.0) for piece in plan.pieces]
        # A model that may write first decides itself what it says.
        self._lengths = [speech_length(piece) if request.params.force_audio_gen else None for piece in plan.pieces]
        has_clips = bool(request.reference_sources)
        self._context = PieceContext(request.generation_chunk_buffer_size, anchored=not has_clips)
        self._attempts: list[Attempt] = []  # of the piece that comes next
        self._pieces: list[FinishedPiece] = []
        self._first_with_less_context: int | None = None

    @property
    def index(self) -> int:
        """The piece that comes next."""
        return len(self._pieces)

    @property
    def goes_on(self) -> bool:
        return self.index < len(self._plan.pieces)

    @property
    def trims(self) -> bool:
        """Whether long silence at the end of a piece is cut."""
        return self._request.trim

    @property
    def may_retry(self) -> bool:
        """Whether the piece that comes next would be generated again if it went wrong."""
        return len(self._attempts) < self._request.most_retries

    @property
    def samples(self) -> int:
        """Length of the audio so far."""
        return sum(len(piece.kept.audio) for piece in self._pieces)

    @property
    def seconds(self) -> float:
        return self.samples / self._pieces[0].kept.result.sampling_rate if self._pieces else 0.0

    def sample(self) -> ChatMLSample:
        while len(self._context) and self._positions() > self._max_context:
            self._context.drop_one()
            if self._request.generation_chunk_buffer_size is not None and self._first_with_less_context is None:
                self._first_with_less_context = self.index + 1
        return self._plan.sample(self.index, self._context)

    def _positions(self) -> int:
        """What the next piece may take of the context when its voice is slow."""
        turns = self._plan.sample(self.index, self._context).messages
        length = self._lengths[self.index]
        steps = self._cap if length is None else min(self._cap, length.most)
        return sum(most_positions(turn, self._count_tokens) for turn in turns) + steps

    @property
    def _cap(self) -> int:
        """Decode steps of the piece that comes next."""
        most, length = self._params.max_new_tokens, self._lengths[self.index]
        return most if length is None or not self._request.cap_follows_text else min(most, length.most)

    def params(self) -> GenerationParams:
        seed = retry_seed(piece_seed(self._seed, self.index), len(self._attempts))
        return replace(self._params, max_new_tokens=self._cap, seed=seed)

    def share(self, columns: int) -> float:
        """How much of the request is done, 0 to 1, when the piece that comes next has this many columns."""
        if not self.goes_on:
            return 1.0
        expected = min(self._words[self.index] * _COLUMNS_PER_WORD, self._cap)
        running = self._words[self.index] * min(columns / expected, _MOST_OF_A_PIECE)
        return (sum(self._words[: self.index]) + running) / sum(self._words)

    def add(self, result: GenerationResult, *, heard: bool = False) -> NDArray[np.float32] | None:
        """Take in a generation of the piece. Returns the piece's audio, or None when it is to be generated again.

        heard: some of its audio has left already, so that it has to stay.
        Raises ModelLoadError when the engine made codes but has no codec to make them heard.
        """
        length = self._lengths[self.index]
        attempt = judge(result, length, ras=self._params.ras_window > 0, trim=self.trims)
        too_late = bool(attempt.faults) and self.may_retry and heard
        retry = bool(attempt.faults) and self.may_retry and not heard
        self._attempts.append(attempt)
        if retry:
            return None
        piece = FinishedPiece(tuple(self._attempts), self._cap, heard_too_early=too_late)
        if not piece.kept.faults:
            turn = self._plan.turns[self.index]
            self._context.add(spoken_turns(turn, np.concatenate(piece.kept.codes, axis=1)), _words_of(turn))
        self._attempts = []
        self._pieces.append(piece)
        return piece.kept.audio

    def result(self) -> SpeechResult:
        """Raises NoAudioError when no piece has a complete frame."""
        if self.samples == 0:
            raise NoAudioError("Model did not return audio tokens.")
        kept = [piece.kept for piece in self._pieces]
        attempts = [attempt.result for piece in self._pieces for attempt in piece.attempts]
        return SpeechResult(
            audio=np.concatenate([attempt.audio for attempt in kept]),
            sampling_rate=kept[0].result.sampling_rate,
            audio_codes=[codes for attempt in kept for codes in attempt.codes],
            text="".join(attempt.result.text for attempt in kept),
            text_token_ids=[token for attempt in kept for token in attempt.result.text_token_ids],
            usage=_summed(attempt.usage for attempt in attempts),
            finish_reason="length" if any(attempt.result.finish_reason == "length" for attempt in kept) else "stop",
            seed=self._seed,
            timings=_summed(attempt.timings for attempt in attempts) | self._first_audio(),
            pieces=self._times(),
            warnings=(*self._plan.warnings, *self._warnings()),
            retried_pieces=sum(len(piece.attempts) > 1 for piece in self._pieces),
        )

    def _first_audio(self) -> dict[str, float]:
        """When the first piece could be heard; one that was generated again could not before its last generation."""
        *before, last = (attempt.result.timings for attempt in self._pieces[0].attempts)
        if "first_audio" not in last:
            return {}
        return {"first_audio": sum(timings.get("total", 0.0) for timings in before) + last["first_audio"]}

    def _times(self) -> tuple[SpokenPiece, ...]:
        times = []
        start = 0
        for text, piece in zip(self._plan.pieces, self._pieces, strict=True):
            end, rate = start + len(piece.kept.audio), piece.kept.result.sampling_rate
            times.append(SpokenPiece(text, start / rate, end / rate))
            start = end
        return tuple(times)

    def _warnings(self) -> list[str]:
        warnings = warnings_about(
            self._pieces, cap_follows_text=self._request.cap_follows_text, trims=self.trims, context=self._max_context
        )
        if self._first_with_less_context is not None:
            warnings.append(
                f"From piece {self._first_with_less_context} on, fewer earlier pieces than "
                f"generation_chunk_buffer_size={self._request.generation_chunk_buffer_size} were kept as context, "
                "because more would not fit."
            )
        return warnings


def _words_of(turn: Message) -> str:
    return "".join(getattr(part, "text", "") for part in turn.parts)


def _summed(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
