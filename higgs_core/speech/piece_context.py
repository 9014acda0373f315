"""What the next piece of a speech hears of the earlier ones: the last few, and the first as the voice's anchor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from higgs_core.prompt.chatml import Message, TextContent
from higgs_core.text.speaker_tags import speaker_tags

SpokenTurns = tuple[Message, Message]
"""The user's turn with the words of a piece, and the assistant's with its audio."""


@dataclass(frozen=True, eq=False)
class _Entry:
    turns: SpokenTurns
    is_anchor: bool


class PieceContext:
    """Pieces that went well, in the order in which they were spoken.

    size: how many of the last ones are kept; None keeps all, 0 none.
    anchored: keep the first piece of every speaker too. Where no reference clip holds the voice, it would otherwise
    drift from piece to piece.
    """

    def __init__(self, size: int | None, *, anchored: bool) -> None:
        self._size = size
        self._anchored = anchored and size != 0
        self._speakers: set[str] = set()
        self._entries: list[_Entry] = []

    def add(self, turns: SpokenTurns) -> None:
        """A piece has been spoken. Its words have the speaker tags in force."""
        words = "".join(part.text for part in turns[0].parts if isinstance(part, TextContent))
        speakers = set(speaker_tags(words)) or {""}
        is_anchor = self._anchored and not speakers <= self._speakers
        self._speakers |= speakers
        self._entries.append(_Entry(turns, is_anchor))
        if self._size is not None:
            first_recent = len(self._entries) - self._size
            self._entries = [entry for at, entry in enumerate(self._entries) if entry.is_anchor or at >= first_recent]

    def __iter__(self) -> Iterator[SpokenTurns]:
        return (entry.turns for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def drop_one(self) -> None:
        """Make room: the oldest piece goes that is no anchor, else the latest anchor."""
        others = [entry for entry in self._entries if not entry.is_anchor]
        self._entries.remove(others[0] if others else self._entries[-1])
