"""Scripts for several voices. A turn is a tag such as `[SPEAKER0]` and the text up to the next tag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TAG = re.compile(r"\[(SPEAKER\d{1,4})\]")


@dataclass(frozen=True)
class Turn:
    """One entry of `dialogue`. speaker is a tag without brackets ("SPEAKER0"), or None."""

    speaker: str | None
    text: str


def speaker_tags(text: str) -> tuple[str, ...]:
    """The different tags of a text, without brackets, SPEAKER2 before SPEAKER10."""
    return tuple(sorted(set(TAG.findall(text)), key=lambda tag: (int(tag.removeprefix("SPEAKER")), tag)))


def leading_tag(text: str) -> str | None:
    """The tag that a text starts with, without brackets."""
    found = TAG.match(text.lstrip())
    return found[1] if found else None


def bracketed(tag: str) -> str:
    """`SPEAKER0` and `[SPEAKER0]` both as `[SPEAKER0]`."""
    tag = tag.strip()
    return tag if tag.startswith("[") and tag.endswith("]") else f"[{tag}]"


def with_names(text: str, names: Mapping[str, str]) -> str:
    """The text with names in place of tags, `[Alice]` for `[SPEAKER0]`. names: tag without brackets -> name."""
    return TAG.sub(lambda found: bracketed(names.get(found[1], found[1])), text) if names else text


def with_tag(text: str, tag: str | None) -> str:
    """The text with the speaker's tag in front, unless it starts with a tag already."""
    if not tag or not tag.strip() or leading_tag(text) or text.lstrip().startswith(bracketed(tag)):
        return text
    return f"{bracketed(tag)} {text}"


def dialogue_to_script(turns: Iterable[Turn]) -> str:
    """One line a turn; a turn without a speaker is a line without a tag."""
    return "\n".join(with_tag(turn.text.strip(), turn.speaker) for turn in turns)


def reference_tags(given: Sequence[str | None], *, tagged: bool) -> list[str | None]:
    """The speakers of clips that stand in turns, from the tags that the clips bring.

    tagged: the script names its speakers. Several clips that name none are then SPEAKER0, SPEAKER1, … in their order;
    in an untagged script they are several clips of the one voice.
    """
    if tagged and len(given) > 1 and not any(given):
        return [f"SPEAKER{index}" for index in range(len(given))]
    return [tag or None for tag in given]


def carry_tags(pieces: Sequence[str], first_tag: str | None = None) -> list[str]:
    """Pieces of one script, each starting with the tag in force where it was cut.

    first_tag: the speaker before the script's first own tag. The model reads a piece without the text around it, so a
    piece that starts in the middle of a turn would otherwise lose its voice.
    """
    spoken = []
    current = first_tag
    for piece in pieces:
        spoken.append(with_tag(piece, current))
        own = TAG.findall(piece)
        current = own[-1] if own else current
    return spoken
