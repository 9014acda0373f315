"""The state of one request: prompt, seed and cap of each generation, and which generation of a piece is kept.

Text and codes of pieces that went well go back in as context of the next ones. A piece that went wrong is generated
again and is never context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higgs_core.params import MAX_SEED, GenerationParams, draw_seed
from higgs_core.prompt.chatml import ChatMLSample, Message
from higgs_core.prompt.size import CountTokens, most_positions
from higgs_core.speech.piece_attempts import Attempt, FinishedPiece, check_generation
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.piece_faults import harm_of
from higgs_core.speech.piece_warnings import warnings_about
from higgs_core.speech.plan import Piece, plan_speech
from higgs_core.speech.request import Clips, SpeechRequest
from higgs_core.speech.result import SpeechResult, joined
from higgs_core.text.speech_length import MAX_PIECE_WORDS

if TYPE_CHECKING:
    from higgs_core.engine import GenerationResult


_MOST_OF_A_PIECE = 0.95  # what a guess may claim before the piece has ended


def piece_seed(seed: int, index: int) -> int:
    """The seed of a request's index-th piece; the first one has the request's own."""
    return seed if index == 0 else _derived(f"{seed}/{index}")


def retry_seed(seed: int, attempt: int) -> int:
    """The seed of a piece's attempt-th generation; the first one has the piece's own."""
    return seed if attempt == 0 else _derived(f"{seed}/again/{attempt}")


def _derived(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) & MAX_SEED


def new_context(request: SpeechRequest) -> PieceContext:
    """An empty context of the size that the request asks for, and for requests like it that are to share it."""
    return PieceContext(request.generation_chunk_buffer_size, keep_first=not request.reference_sources)


class SpeechSession:
    """A request, piece by piece: while `has_next`, generate `sample` with `params` and `add` the result.

    After the last piece `result` has everything. The *next piece* is the one that is being generated or generated
    again.
    max_context: the engine's positions for prompt and speech; earlier pieces stand in the prompt as far as they fit.
    max_piece_words: the most words of a piece unless the request says how many it wants.
    context: of earlier requests, whose pieces stand before this one's first. It takes in this one's when the result is
    there, so a request that fails or is cancelled leaves it as it was; None for a context of the request's own.
    Raises RequestError when there is nothing to speak or a clip is missing.
    """

    def __init__(
        self,
        request: SpeechRequest,
        clips: Clips,
        max_context: int,
        count_tokens: CountTokens,
        *,
        max_piece_words: int = MAX_PIECE_WORDS,
        context: PieceContext | None = None,
    ) -> None:
        self.request = request
        self._max_context = max_context
        self._count_tokens = cache(count_tokens)  # the same turns stand before every piece
        self._plan = plan_speech(request, clips, max_context, count_tokens, max_piece_words=max_piece_words)
        self._seed = draw_seed() if request.params.seed is None else request.params.seed
        self._shared_context = context
        self._context = new_context(request) if context is None else context.copy()
        self._attempts: list[Attempt] = []  # of the next piece
        self._finished: list[FinishedPiece] = []
        self._first_with_less_context: int | None = None

    @property
    def has_next(self) -> bool:
        return len(self._finished) < len(self._plan.pieces)

    @property
    def may_retry(self) -> bool:
        """Whether the next piece would be generated again if its next generation went wrong."""
        return len(self._attempts) < self.request.retry_limit

    @property
    def has_attempt(self) -> bool:
        """Whether the next piece has been generated already and went wrong."""
        return bool(self._attempts)

    @property
    def speech_samples(self) -> int:
        """Length of the speech so far, without the pauses between its pieces."""
        return sum(len(piece.kept.audio) for piece in self._finished)

    @property
    def paused_samples(self) -> int:
        """Length of the pauses that stand before and between the pieces so far."""
        return sum(piece.piece.pause_samples for piece in self._finished)

    @property
    def pause_samples(self) -> int:
        """Silence before the next piece, or after the last one."""
        return self._piece.pause_samples if self.has_next else self._plan.pause_samples_at_end

    @property
    def text(self) -> str:
        """What the next piece says."""
        return self._piece.text

    @property
    def pieces_ahead(self) -> int:
        """How many pieces may be generated beside the next one, before it is finished."""
        return len(self._plan.pieces) - len(self._finished) - 1 if self._plan.parallel and self.has_next else 0

    @property
    def _piece(self) -> Piece:
        """The next piece."""
        return self._plan.pieces[len(self._finished)]

    def sample(self, ahead: int = 0) -> ChatMLSample:
        """The prompt of the next piece, or of the one that comes so many pieces after it. Earlier pieces leave the
        context until it fits; where pieces are spoken at the same time, none of them is another's context."""
        base_turns, piece = self._plan.base_turns, self._plan.pieces[len(self._finished) + ahead]
        if self._plan.parallel:
            return ChatMLSample([*base_turns, piece.turn], shared_turns=len(base_turns))
        steps = piece.cap if piece.length is None else min(piece.cap, piece.length.most)  # of a slow voice
        while True:
            turns = [*base_turns, *self._context, piece.turn]
            if not len(self._context) or self._positions(turns) + steps <= self._max_context:
                return ChatMLSample(turns, shared_turns=len(base_turns))
            self._context.drop_one()
            if self._first_with_less_context is None:
                self._first_with_less_context = len(self._finished) + 1

    def _positions(self, turns: list[Message]) -> int:
        return sum(most_positions(turn, self._count_tokens) for turn in turns)

    def params(self, ahead: int = 0) -> GenerationParams:
        """How that piece is sampled: with a seed of this generation alone, and the piece's own cap."""
        at = len(self._finished) + ahead
        seed = retry_seed(piece_seed(self._seed, at), 0 if ahead else len(self._attempts))
        return replace(self.request.params, max_new_tokens=self._plan.pieces[at].cap, seed=seed)

    def share(self, columns: Sequence[int]) -> float:
        """How much of the request is done, 0 to 1, when the next pieces have this many columns each."""
        if not self.has_next:
            return 1.0
        next_pieces = self._plan.pieces[len(self._finished) :]
        running = sum(
            piece.words * min(so_far / piece.usual_columns, _MOST_OF_A_PIECE)
            for piece, so_far in zip(next_pieces, columns, strict=False)
        )
        done = sum(finished.piece.words for finished in self._finished)
        return (done + running) / sum(piece.words for piece in self._plan.pieces)

    def add(self, result: GenerationResult, *, sent: bool = False) -> NDArray[np.float32] | None:
        """Take in a generation of the next piece.

        Returns the piece's audio, float32 [N], or None when it is to be generated again.
        sent: some of its audio has been sent already, so that it has to stay.
        Raises ModelLoadError when the engine generated codes but has no codec to decode them.
        """
        ras = self.request.params.ras_window > 0
        attempt = check_generation(result, self._piece.length, ras=ras, trim=self.request.trim)
        wanted_again = bool(attempt.faults) and self.may_retry
        self._attempts.append(attempt)
        if sent:
            return self._finish(attempt, sent_too_early=wanted_again)
        return None if wanted_again else self.keep_best()

    def keep_best(self) -> NDArray[np.float32]:
        """Generate the piece no more. Returns the audio of the least harmful generation, float32 [N]."""
        return self._finish(min(self._attempts, key=lambda attempt: harm_of(attempt.faults)), sent_too_early=False)

    def _finish(self, kept: Attempt, *, sent_too_early: bool) -> NDArray[np.float32]:
        piece = self._piece
        if not kept.faults:
            self._context.add(piece.turn, np.concatenate(kept.codes, axis=1))
        self._finished.append(FinishedPiece(piece, tuple(self._attempts), kept, sent_too_early))
        self._attempts = []
        return kept.audio

    def result(self) -> SpeechResult:
        """Everything; a shared context has the request's pieces then. Raises NoAudioError without a complete frame."""
        warnings = [
            *self._plan.warnings,
            *warnings_about(self._finished, trim=self.request.trim, max_context=self._max_context),
        ]
        wanted = self.request.generation_chunk_buffer_size
        if wanted is not None and self._first_with_less_context is not None:
            warnings.append(
                f"From piece {self._first_with_less_context} on, fewer earlier pieces than "
                f"generation_chunk_buffer_size={wanted} were kept as context, because more would not fit."
            )
        pause = self._plan.pause_samples_at_end
        result = joined(self._finished, pause, seed=self._seed, warnings=tuple(warnings))
        if self._shared_context is not None:
            self._shared_context.take_over(self._context)
        return result
