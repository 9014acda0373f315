"""How much one request may ask for. Everything is added up before anything is generated. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from higgs_core.errors import RequestError

_FEW_CHARACTERS = 16  # a full stop, or a sound in a short text
_IN_PARTS = "send the text in several requests"


@dataclass(frozen=True)
class WorkLimits:
    """The most of a request. Its checks raise RequestError with the number, what is allowed and the remedy.

    characters: of the script. The text rules may make it a quarter longer, as the punctuation of Chinese does.
    pieces: generations, retries not counted.
    audio_seconds: as estimated from the text, at 150 words a minute.
    field, of every check: the payload's name for the script.
    """

    characters: int
    pieces: int
    audio_seconds: float

    def check_characters(self, sent: int, normalized: int, field: str) -> None:
        """sent, normalized: characters of the script before and after the text rules."""
        most = self.characters + self.characters // 4 + _FEW_CHARACTERS
        if normalized > most:
            raise RequestError(
                f"{field} is {sent} characters long and {normalized} after normalize; allowed is at most {most} then.",
                field=field,
                hint=f"Use normalize: false and no normalize_numbers, or {_IN_PARTS}.",
            )

    def check_pieces(self, pieces: int, field: str) -> None:
        if pieces > self.pieces:
            raise RequestError(
                f"{field} makes {pieces} pieces; allowed is at most {self.pieces}.",
                field=field,
                hint=f"Use a larger chunk_max_word_num or chunk_max_num_turns, or {_IN_PARTS}.",
            )

    def check_audio_seconds(self, seconds: float, field: str) -> None:
        if seconds > self.audio_seconds:
            raise RequestError(
                f"{field} takes about {seconds:.0f} s to speak; allowed is at most {self.audio_seconds:.0f} s.",
                field=field,
                hint=f"To have less spoken at a time, {_IN_PARTS}.",
            )
