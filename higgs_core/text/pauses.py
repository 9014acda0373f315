"""Pause tags of a script: `[pause 1.5s]`, `[pause 500ms]`, `[pause: 2]`, and `[pause]` for a natural half second.

A pause is silence between two generations, so the script is divided at it. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from higgs_core.errors import RequestError
from higgs_core.text.markup import INSTRUCTION, UNBROKEN
from higgs_core.text.speaker_tags import TAG, leading_tag

NATURAL_SECONDS = 0.5
"""Of a pause that states no duration."""

MAX_PAUSE_SECONDS = 10.0
"""Of one tag; tags that follow each other add up."""

MAX_PAUSES_SECONDS = 300.0
"""Of all tags of a script together."""

_PAUSE_OR_UNBROKEN = re.compile(
    rf"[\[【]\s{{0,4}}[Pp][Aa][Uu][Ss][Ee](?P<duration>(?:[\s:=：][^\[\]【】]{{0,40}})?)[\]】]|{UNBROKEN.pattern}"
)
_BEGUN = re.compile(r"[\[【]\s{0,4}(?:[Pp](?:[Aa](?:[Uu](?:[Ss](?:[Ee](?:[\s:=：][^\[\]【】]{0,40})?)?)?)?)?)?")
_DURATION = re.compile(
    r"(?P<number>\d{1,9}(?:[.,]\d{0,9})?|[.,]\d{1,9})\s{0,4}"
    r"(?P<unit>(?:ms|msecs?|milliseconds?|s|secs?|seconds?)?)",
    re.ASCII,
)
_NUMBER_LIKE = re.compile(r"[+\-.,]?\d", re.ASCII)
_ECHOED = re.compile(r"[\w .,:+\-]{1,24}")
_UNSPOKEN = re.compile(rf"(?P<tag>{TAG.pattern})|(?s:{INSTRUCTION.pattern})")
_CLOSING_PUNCTUATION = re.compile(r"\s{0,8}([.,;:!?…。，、；：！？]+)(?!\S)")


@dataclass(frozen=True)
class Passage:
    """A part of a script without a pause in it. pause_before: seconds of silence between it and what stands before."""

    text: str
    pause_before: float = 0.0


@dataclass(frozen=True)
class PausedScript:
    """passages: those that have words; a script without a pause is one, verbatim.

    pause_at_end: seconds after the last.  unread: what looks like a pause and stayed text, such as "[pause button]".
    """

    passages: tuple[Passage, ...]
    pause_at_end: float
    unread: tuple[str, ...]

    @property
    def pause_seconds(self) -> float:
        return sum(passage.pause_before for passage in self.passages) + self.pause_at_end


def split_at_pauses(script: str, *, field: str = "script") -> PausedScript:
    """Divide a script at its pauses.

    Speaker tags and instructions that stand just before a pause go over to what follows it, and punctuation just after
    a pause goes back to what stands before.  field: the payload's name for the script, for error messages.
    Raises RequestError for a pause that states no duration or too long a one, and for too much of them together.
    """
    parts, pauses, unread = _divided(script, field)
    if not pauses:
        return PausedScript((Passage(script),), 0.0, unread)
    total = sum(pauses)
    if total > MAX_PAUSES_SECONDS:
        raise RequestError(
            f"{field} has pauses of {total:g} s together; allowed are at most {MAX_PAUSES_SECONDS:g} s.",
            field=field,
            hint="Shorten the pauses, or send the text in several requests.",
        )
    passages: list[Passage] = []
    marks: list[str] = []
    pause = 0.0
    for text, pause_after in zip(parts, [*pauses, 0.0], strict=True):
        if passages and (found := _CLOSING_PUNCTUATION.match(text)):
            text = text[found.end() :]
            passages[-1] = Passage(passages[-1].text.rstrip() + found[1], passages[-1].pause_before)
        end = _end_of_words(text)
        if end:
            passages.append(Passage(_with_marks(text[:end].strip(), marks), pause))
            marks, pause = [], 0.0
        marks += (found[0] for found in _UNSPOKEN.finditer(text, end))
        pause += pause_after
    return PausedScript(tuple(passages), pause, unread)


def end_of_pause(text: str, start: int) -> int | None:
    """The end of the pause that begins at a place of the text, of whatever duration; None where none does."""
    found = _PAUSE_OR_UNBROKEN.match(text, start)
    return found.end() if found is not None and _is_pause(found) else None


def may_become_pause(text: str) -> bool:
    """Whether a text that still comes, from its first character on, may become a pause."""
    return _BEGUN.fullmatch(text) is not None


def has_pause(text: str) -> bool:
    """Whether `split_at_pauses` would find a pause, of whatever duration."""
    return any(_is_pause(found) for found in _PAUSE_OR_UNBROKEN.finditer(text))


def _divided(script: str, field: str) -> tuple[list[str], list[float], tuple[str, ...]]:
    """What stands around the pauses, one more than there are pauses; their seconds; and what is none."""
    parts, pauses, unread = [], [], []
    start = 0
    for found in _PAUSE_OR_UNBROKEN.finditer(script):
        if _is_pause(found):
            pauses.append(_seconds(found["duration"].strip(" \t\r\n:=："), field))
            parts.append(script[start : found.start()])
            start = found.end()
        elif found["duration"] is not None:
            unread.append(found[0])
    parts.append(script[start:])
    return parts, pauses, tuple(dict.fromkeys(unread))


def _is_pause(found: re.Match[str]) -> bool:
    """Whether a match is a pause tag, with nothing or with what begins as a number for its duration."""
    if found["duration"] is None:
        return False
    duration = found["duration"].strip(" \t\r\n:=：")
    return not duration or _NUMBER_LIKE.match(duration) is not None


def _seconds(duration: str, field: str) -> float:
    """Raises RequestError that names the duration."""
    if not duration:
        return NATURAL_SECONDS
    shown = f"[pause {duration}]" if _ECHOED.fullmatch(duration) else "a pause"
    found = _DURATION.fullmatch(duration.lower())
    if found is None:
        raise RequestError(
            f"{field} has {shown}, which is no duration; write [pause 1.5s] or [pause 500ms].", field=field
        )
    seconds = float(found["number"].replace(",", ".")) / (1000 if found["unit"].startswith("m") else 1)
    if not 0 < seconds <= MAX_PAUSE_SECONDS:
        raise RequestError(
            f"{field} has {shown}; a pause is above 0 and at most {MAX_PAUSE_SECONDS:g} s long.", field=field
        )
    return seconds


def _end_of_words(text: str) -> int:
    """Where the last part with a word or a sound in it ends: there, or before the next tag or instruction."""
    end = start = 0
    for edge, after in _unspoken_edges(text):
        if any(character.isalnum() for character in text[start:edge]):
            end = edge
        start = after
    return end


def _unspoken_edges(text: str) -> Iterator[tuple[int, int]]:
    yield from (found.span() for found in _UNSPOKEN.finditer(text))
    yield len(text), len(text)


def _with_marks(text: str, marks: Sequence[str]) -> str:
    """The text behind instructions and the last tag that stood before a pause; a tag of its own wins."""
    tags = [mark for mark in marks if TAG.fullmatch(mark)]
    instructions = [mark for mark in marks if not TAG.fullmatch(mark)]
    tag = tags[-1:] if leading_tag(text) is None else []
    return " ".join([*tag, *instructions, text])
