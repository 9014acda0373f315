"""Where a word may be divided without tearing apart what is written as one."""

from __future__ import annotations

import unicodedata

_ZERO_WIDTH_JOINER = "\u200d"
_VIRAMA = 9  # canonical combining class: it binds the next letter to the one before
_WRITTEN_BEFORE = frozenset("เแโใไເແໂໃໄ")  # Thai and Lao vowels that stand before their consonant
_WRITTEN_BEHIND = frozenset("ะาำๅๆฯະາຳໆຯ")  # vowels and marks that are letters to Unicode and end a syllable


def may_divide(text: str, at: int) -> bool:
    """Whether a cut before the character `at`, from 1 on, leaves marks, joined emoji and Thai syllables whole."""
    before, after = text[at - 1], text[at]
    if unicodedata.category(after).startswith("M") or _ZERO_WIDTH_JOINER in (before, after):
        return False
    if unicodedata.combining(before) == _VIRAMA and after.isalpha():
        return False
    return before not in _WRITTEN_BEFORE and after not in _WRITTEN_BEHIND
