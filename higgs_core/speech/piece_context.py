"""The earlier pieces that stand in the prompt of the next: the last few, and every speaker's first for its voice.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from numpy.typing import NDArray

from higgs_core.prompt.chatml import AudioContent, Message, TextContent
from higgs_core.text.speaker_tags import speaker_tags


@dataclass(frozen=True, eq=False)
class _Entry:
    turns: tuple[Message, Message]
    """The user's turn with the words, and the assistant's with their audio."""
    is_speakers_first: bool


class PieceContext:
    """Pieces that went well, in the order in which they were spoken; iterating gives their turns.

    size: how many of the last ones are kept; None keeps all, 0 none.
    keep_first: keep the first piece of every speaker too. Where no reference clip gives the voice, it would otherwise
    change from piece to piece.

    A context that several requests share must have one of them at a time: each works on a copy, and the shared one
    takes over what the copy holds when the request is complete.
    """

    def __init__(self, size: int | None, *, keep_first: bool) -> None:
        self._size = size
        self._keep_first = keep_first and size != 0
        self._speakers: set[str] = set()
        self._entries: list[_Entry] = []

    def copy(self) -> Self:
        """The same pieces, to which others can be added without a change here."""
        twin = type(self)(self._size, keep_first=self._keep_first)
        twin.take_over(self)
        return twin

    def take_over(self, other: PieceContext) -> None:
        """Hold the pieces that `other` holds, and no others."""
        self._speakers, self._entries = set(other._speakers), list(other._entries)

    def add(self, turn: Message, codes: NDArray[Any]) -> None:
        """turn: the words, with the speaker tags in force.  codes: int64 [8, T], complete frames."""
        words = "".join(part.text for part in turn.parts if isinstance(part, TextContent))
        speakers = set(speaker_tags(words)) or {""}
        is_first = self._keep_first and not speakers <= self._speakers
        self._speakers |= speakers
        self._entries.append(_Entry((turn, Message("assistant", AudioContent(codes=codes))), is_first))
        if self._size is not None:
            recent = len(self._entries) - self._size
            self._entries = [entry for at, entry in enumerate(self._entries) if entry.is_speakers_first or at >= recent]

    def __iter__(self) -> Iterator[Message]:
        return (turn for entry in self._entries for turn in entry.turns)

    def __len__(self) -> int:
        """In pieces."""
        return len(self._entries)

    def drop_one(self) -> None:
        """Drop the oldest piece that is no speaker's first, else the latest of those that are."""
        others = [entry for entry in self._entries if not entry.is_speakers_first]
        self._entries.remove(others[0] if others else self._entries[-1])
