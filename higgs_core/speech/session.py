"""Walks through the pieces of a request: prompt, seed and cap of each, and which of its generations is kept.

Text and codes of pieces that went well go back in as context of the next ones. A piece that went wrong is generated
again and never is context.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.params import MAX_SEED, GenerationParams, draw_seed
from higgs_core.prompt.chatml import ChatMLSample
from higgs_core.prompt.size import CountTokens, most_positions, utf8_length
from higgs_core.speech.attempt import Attempt, CapFrom, FinishedPiece, judge
from higgs_core.speech.piece_check import better
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.piece_warnings import warnings_about
from higgs_core.speech.plan import Plan, spoken_turns
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.result import SpeechResult, SpokenPiece, joined
from higgs_core.text.chunking import count_words
from higgs_core.text.speech_length import speech_length, timed_words

if TYPE_CHECKING:
    from higgs_core.engine import GenerationResult

__all__ = ["Narration", "SpeechResult", "SpokenPiece", "piece_seed", "retry_seed"]

_COLUMNS_PER_WORD = 10  # 150 words a minute: only a guess at how far a running piece is
_MOST_OF_A_PIECE = 0.95  # what a guess may claim before the piece has ended


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
        self._words = [max(count_words(piece, timed_words), 1.0) for piece in plan.pieces]
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
    def has_attempt(self) -> bool:
        """Whether the piece that comes next has been generated already and went wrong."""
        return bool(self._attempts)

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
        length = self._lengths[self.index]
        return length.most if self._cap_from == "text" and length is not None else self._params.max_new_tokens

    @property
    def _cap_from(self) -> CapFrom:
        """Who sets them."""
        if not self._request.cap_follows_text:
            return "client"
        length = self._lengths[self.index]
        return "text" if length is not None and length.most <= self._params.max_new_tokens else "ceiling"

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
        wanted_again = bool(attempt.faults) and self.may_retry
        self._attempts.append(attempt)
        if heard:
            return self._finish(attempt, heard_too_early=wanted_again)
        return None if wanted_again else self.keep_best()

    def keep_best(self) -> NDArray[np.float32]:
        """Generate the piece no more; returns the audio of the generation that did the least harm."""
        return self._finish(self._attempts[better([attempt.faults for attempt in self._attempts])])

    def _finish(self, kept: Attempt, *, heard_too_early: bool = False) -> NDArray[np.float32]:
        piece = FinishedPiece(tuple(self._attempts), kept, self._cap, self._cap_from, heard_too_early)
        if not kept.faults:
            codes = np.concatenate(kept.codes, axis=1)
            self._context.add(spoken_turns(self._plan.turns[self.index], codes))
        self._attempts = []
        self._pieces.append(piece)
        return kept.audio

    def result(self) -> SpeechResult:
        """Raises NoAudioError when no piece has a complete frame."""
        warnings = (*self._plan.warnings, *self._warnings())
        return joined(self._pieces, self._plan.pieces, seed=self._seed, warnings=warnings)

    def _warnings(self) -> list[str]:
        warnings = warnings_about(self._pieces, trims=self.trims, context=self._max_context)
        if self._first_with_less_context is not None:
            warnings.append(
                f"From piece {self._first_with_less_context} on, fewer earlier pieces than "
                f"generation_chunk_buffer_size={self._request.generation_chunk_buffer_size} were kept as context, "
                "because more would not fit."
            )
        return warnings
