"""Marks that end sentences and clauses in the scripts of the world, and full stops that end none."""

from __future__ import annotations

import re

SPACED_ENDS = ".!?…؟۔।॥։።။។‼⁇⁈⁉"
"""These end a sentence where white space follows them."""
WIDE_ENDS = "。！？｡"
"""These end a sentence whatever follows them."""
SPACED_CLAUSE_ENDS = ",;:،؛፣፤"
WIDE_CLAUSE_ENDS = "，、；：､—–"

OPENING = "[({<“‘《「『【（«„‚‹"
CLOSING = "\"'”’)]}>»」』】》）"
"""Brackets and quotation marks around words."""

_INITIALS = re.compile(r"\W*(?:[A-Za-zÀ-ʯΑ-ԯ]\.)+")
_TITLES = frozenset(
    {
        *("mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "gen", "sen", "gov", "capt", "lt", "col", "sgt"),
        *("rev", "approx", "mme", "mlle", "sra", "srta", "dra", "hr"),
    }
)
_SHORTENED = frozenset(
    {
        *("abs", "al", "art", "bzw", "ca", "cf", "ch", "co", "dept", "ed", "eds", "est", "etc", "evtl", "fig", "figs"),
        *("ggf", "godz", "inc", "inkl", "kap", "kl", "ltd", "min", "mio", "mrd", "no", "nos", "nr", "p", "pp", "sec"),
        *("sek", "std", "tel", "usw", "vgl", "vol"),
        *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "okt", "nov", "dec", "dez"),
    }
)
"""Words that a full stop shortens where a small letter or a digit follows."""
_BEFORE_AN_ORDINAL = frozenset(
    {"ab", "am", "beim", "bis", "dem", "den", "der", "des", "die", "im", "seit", "vom", "zum", "zur"}
)
_ORDINAL = re.compile(r"\d{1,2}\.")
_LONGEST_WORD = 16


def full_stop_ends_sentence(text: str, start: int, stop: int, follower: str) -> bool:
    """Whether the full stop at the end of the word text[start:stop] ends a sentence.

    `J.`, `U.S.` and `Dr.` end none, nor do `No. 5`, `usw. und` and `am 3. Oktober`.
    follower: the first character after the white space behind it, "" where none is known.
    """
    word = text[start:stop]
    bare = word.strip(OPENING + CLOSING + ".").lower()
    if _INITIALS.fullmatch(word) or bare in _TITLES:
        return False
    if (follower.islower() or follower.isdigit()) and bare in _SHORTENED:
        return False
    before = text[max(0, start - _LONGEST_WORD) : start].split()
    return not (_ORDINAL.fullmatch(word) and before and before[-1].lower() in _BEFORE_AN_ORDINAL)
