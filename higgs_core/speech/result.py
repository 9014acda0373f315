"""What a request's pieces add up to. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

    audio: float32 [N].  audio_codes: int64 [8, T], one a segment of audio, all pieces in order, without pauses.
    usage: summed over everything that was generated.  finish_reason: "length" if any piece was cut off.
    seed: makes the same speech again, sent with the number of retries that this one had.
    timings: seconds, summed; first_audio is the first piece's.  retried_pieces: how many were generated again.
    faulty_pieces: how many stayed faulty.
    pauses: start and end, in samples, of the silence that the script asked for, in order.
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
    pauses: tuple[tuple[int, int], ...] = ()


def joined(
    pieces: Sequence[FinishedPiece], pause_samples_at_end: int, *, seed: int, warnings: tuple[str, ...]
) -> SpeechResult:
    """The pieces and the pauses one after the other. Raises NoAudioError when no piece has a complete frame."""
    kept = [piece.kept for piece in pieces]
    attempts = [attempt.result for piece in pieces for attempt in piece.attempts]
    if not any(len(attempt.audio) for attempt in kept):
        raise NoAudioError("Model did not return audio tokens.")
    rate = kept[0].result.sampling_rate
    spans = list(_spans(pieces))
    audio = np.zeros(spans[-1][1] + pause_samples_at_end, np.float32)
    for (start, stop), attempt in zip(spans, kept, strict=True):
        audio[start:stop] = attempt.audio
    starts, ends = [start for start, _ in spans], [0, *(stop for _, stop in spans)]
    gaps = zip(ends, [*starts, len(audio)], strict=True)
    return SpeechResult(
        audio=audio,
        sampling_rate=rate,
        audio_codes=[codes for attempt in kept for codes in attempt.codes],
        text="".join(attempt.result.text for attempt in kept),
        text_token_ids=[token for attempt in kept for token in attempt.result.text_token_ids],
        usage=_summed(attempt.usage for attempt in attempts),
        finish_reason="length" if any(attempt.result.finish_reason == "length" for attempt in kept) else "stop",
        seed=seed,
        timings=_summed(attempt.timings for attempt in attempts) | _first_audio(pieces[0]),
        pieces=tuple(
            SpokenPiece(piece.piece.text, start / rate, stop / rate)
            for piece, (start, stop) in zip(pieces, spans, strict=True)
        ),
        warnings=warnings,
        retried_pieces=sum(len(piece.attempts) > 1 for piece in pieces),
        faulty_pieces=sum(bool(attempt.faults) for attempt in kept),
        pauses=tuple((start, stop) for start, stop in gaps if stop > start),
    )


def _first_audio(first: FinishedPiece) -> dict[str, float]:
    """Seconds to the first audio; that of a piece that was generated again comes with its last generation."""
    *before, last = (attempt.result.timings for attempt in first.attempts)
    if "first_audio" not in last:
        return {}
    return {"first_audio": sum(timings.get("total", 0.0) for timings in before) + last["first_audio"]}


def _spans(pieces: Sequence[FinishedPiece]) -> Iterator[tuple[int, int]]:
    """Start and end of every piece, in samples."""
    end = 0
    for finished in pieces:
        start = end + finished.piece.pause_samples
        end = start + len(finished.kept.audio)
        yield start, end


def _summed(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
