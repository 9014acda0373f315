"""Names of speakers where a script has them: `[Alice] …`, and `Alice: …` at the start of a line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from higgs_core.text.normalize import EVENT_TAGS
from higgs_core.text.pauses import has_pause
from higgs_core.text.speaker_tags import TAG
from serverless.payload.field_table import ParseContext

_BRACKETED = re.compile(r"\[([^\[\]]{1,66})\]")
_NAME = re.compile(r"\[(?P<inside>[^\[\]]{1,66})\](?:[ \t]{0,4}[:：])?|^(?P<before>[^\[\]:：\n]{1,66})[:：]", re.M)
_MOST_COMPARED = 32  # different words in brackets, each with every name
_MOST_WARNED = 8
_SIMILAR = 0.75  # of difflib's ratio; "Alise" and "Alice" have 0.8


def retagged(script: str, tags: Mapping[str, str]) -> str:
    """The script with the names of speakers replaced by their tags. tags: name in lower case (casefold) -> tag.

    A name is one in brackets, also with a colon behind it, or one with a colon at the start of a line. Other words stay
    what they are.
    """

    def tag(found: re.Match[str]) -> str:
        own = tags.get((found["inside"] or found["before"]).strip().casefold())
        return found[0] if own is None else f"[{own}]"

    return _NAME.sub(tag, script) if tags else script


def warn_of_misspelt_speakers(script: str, names: Sequence[str], context: ParseContext) -> None:
    """Warn of a word in brackets that is no speaker but looks like one. names: of the speakers."""
    if not names:
        return
    known = {name.casefold(): name for name in names}
    warned = 0
    for word in _other_words(script):
        near = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=_SIMILAR)
        if near:
            context.warn(f"[{word}] is no speaker here and is read as text; did you mean [{known[near[0]]}]?")
            warned += 1
        if warned == _MOST_WARNED:
            return


def _other_words(script: str) -> Iterable[str]:
    """Words in brackets that are no tags, sounds or pauses, each once."""
    words = dict.fromkeys(found[1].strip() for found in _BRACKETED.finditer(script) if not has_pause(found[0]))
    sounds = {sound[1:-1] for sound in EVENT_TAGS}
    others = [word for word in words if word.isprintable() and word not in sounds and not TAG.fullmatch(f"[{word}]")]
    return others[:_MOST_COMPARED]
