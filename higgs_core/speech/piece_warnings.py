"""Warnings about pieces that went wrong: which, why, and what may help."""

from __future__ import annotations

from collections.abc import Sequence

from higgs_core.rates import FRAMES_PER_SECOND
from higgs_core.speech.piece_attempts import FinishedPiece
from higgs_core.speech.piece_faults import Fault
from higgs_core.speech.plan import CapFrom

_REMEDIES = {
    Fault.NO_AUDIO: "by the model; another seed may help",
    Fault.LOOP: "another seed may help",
    Fault.TOO_SHORT: "words may be missing, another seed may help",
    Fault.TOO_LONG: "another seed may help",
}


def warnings_about(pieces: Sequence[FinishedPiece], *, trim: bool, max_context: int) -> list[str]:
    """A sentence for every piece that was generated again, and one for every kind of fault that stayed.

    trim: as in the request.  max_context: the engine's positions.
    """
    count = len(pieces)
    warnings = [_generated_again(at, piece, count) for at, piece in enumerate(pieces) if len(piece.attempts) > 1]
    warnings += _cut_off(pieces, max_context)
    for fault, remedy in _REMEDIES.items():
        if found := _with(fault, pieces):
            joint = " " if fault is Fault.NO_AUDIO else "; "
            warnings.append(f"{_named(found, count)} {fault.description}{joint}{remedy}.")
    if found := _with(Fault.SILENT_END, pieces):
        seconds = sum(pieces[at].kept.silent_seconds for at in found)
        cut = ", which was cut" if trim else ""
        warnings.append(f"{_named(found, count)} followed by {seconds:.1f} s of silence{cut}.")
    if found := [at for at, piece in enumerate(pieces) if piece.sent_too_early]:
        warnings.append(f"{_named(found, count)} kept: the audio had been sent before the fault was seen.")
    return warnings


def _generated_again(at: int, piece: FinishedPiece, count: int) -> str:
    """Why a piece was generated again, with which seeds, and which generation stayed."""
    causes = [
        f"with seed {attempt.result.seed} it was {' and '.join(fault.description for fault in attempt.faults)}"
        for attempt in piece.attempts
        if attempt.faults
    ]
    return (
        f"{_named([at], count)} generated again, because {', and '.join(causes)}; the generation with seed "
        f"{piece.kept.result.seed} was kept."
    )


def _cut_off(pieces: Sequence[FinishedPiece], max_context: int) -> list[str]:
    by_cap: dict[tuple[CapFrom, int], list[int]] = {}
    by_context: list[int] = []
    for at in _with(Fault.CUT_OFF, pieces):
        piece = pieces[at].piece
        capped = pieces[at].kept.result.usage["completion_tokens"] >= piece.cap
        (by_cap.setdefault((piece.cap_from, piece.cap), []) if capped else by_context).append(at)
    shorter = "" if len(pieces) == 1 else " or lower chunk_max_word_num"
    warnings = []
    for (cap_from, cap), found in by_cap.items():
        seconds = f"{cap / FRAMES_PER_SECOND:.0f} s"
        end = {
            "client": f"at max_new_tokens={cap} ({seconds}); raise max_new_tokens",
            "text": f"after {cap} steps ({seconds}), the most for such a text; send a larger max_new_tokens",
            "ceiling": f"after {cap} steps ({seconds}), the most for any piece here; send a larger max_new_tokens",
        }[cap_from]
        warnings.append(f"{_named(found, len(pieces))} {Fault.CUT_OFF.description} {end}{shorter}.")
    if by_context:
        warnings.append(
            f"{_named(by_context, len(pieces))} {Fault.CUT_OFF.description} where the context of {max_context} "
            f"positions was full; use fewer or shorter references{shorter}."
        )
    return warnings


def _with(fault: Fault, pieces: Sequence[FinishedPiece]) -> list[int]:
    """Where the fault stayed."""
    return [at for at, piece in enumerate(pieces) if fault in piece.kept.faults]


def _named(pieces: Sequence[int], count: int) -> str:
    if count == 1:
        return "The speech was"
    numbers = ", ".join(str(at + 1) for at in pieces)
    return f"Piece {numbers} of {count} was" if len(pieces) == 1 else f"Pieces {numbers} of {count} were"
