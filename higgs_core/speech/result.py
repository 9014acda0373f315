"""What a request's pieces add up to. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from higgs_core.errors import NoAudioError
from higgs_core.speech.piece_attempts import FinishedPiece


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
    seed: makes the same speech again, sent with the number of retries that this one had.
    timings: seconds, summed; first_audio is the first piece's.  retried_pieces: how many were generated again.
    faulty_pieces: how many stayed faulty.
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
    faulty_pieces: int = 0


def joined(pieces: Sequence[FinishedPiece], *, seed: int, warnings: tuple[str, ...]) -> SpeechResult:
    """The pieces one after the other. Raises NoAudioError when none has a complete frame."""
    kept = [piece.kept for piece in pieces]
    attempts = [attempt.result for piece in pieces for attempt in piece.attempts]
    if not any(len(attempt.audio) for attempt in kept):
        raise NoAudioError("Model did not return audio tokens.")
    return SpeechResult(
        audio=np.concatenate([attempt.audio for attempt in kept]),
        sampling_rate=kept[0].result.sampling_rate,
        audio_codes=[codes for attempt in kept for codes in attempt.codes],
        text="".join(attempt.result.text for attempt in kept),
        text_token_ids=[token for attempt in kept for token in attempt.result.text_token_ids],
        usage=_summed(attempt.usage for attempt in attempts),
        finish_reason="length" if any(attempt.result.finish_reason == "length" for attempt in kept) else "stop",
        seed=seed,
        timings=_summed(attempt.timings for attempt in attempts) | _first_audio(pieces[0]),
        pieces=_places(pieces),
        warnings=warnings,
        retried_pieces=sum(len(piece.attempts) > 1 for piece in pieces),
        faulty_pieces=sum(bool(attempt.faults) for attempt in kept),
    )


def _first_audio(first: FinishedPiece) -> dict[str, float]:
    """Seconds to the first audio; that of a piece that was generated again comes with its last generation."""
    *before, last = (attempt.result.timings for attempt in first.attempts)
    if "first_audio" not in last:
        return {}
    return {"first_audio": sum(timings.get("total", 0.0) for timings in before) + last["first_audio"]}


def _places(pieces: Sequence[FinishedPiece]) -> tuple[SpokenPiece, ...]:
    places = []
    start = 0
    for finished in pieces:
        end, rate = start + len(finished.kept.audio), finished.kept.result.sampling_rate
        places.append(SpokenPiece(finished.piece.text, start / rate, end / rate))
        start = end
    return tuple(places)


def _summed(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
