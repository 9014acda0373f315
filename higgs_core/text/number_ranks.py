"""Plain numbers that are no counts: ordinals, days of a month and decades. Each is tried behind the number's digits.

`number` begins at `at`. Every function gives where the form ends and its words, or None where it does not fit.
"""

from __future__ import annotations

from higgs_core.text import number_patterns as written
from higgs_core.text.number_forms import Found, WrittenNumber, found_at, goes_on, word_before
from higgs_core.text.number_languages import ENGLISH
from higgs_core.text.number_words import NumberWords

_BEFORE_A_DECADE = frozenset({"the", "his", "her", "their", "my", "your", "our", "early", "mid", "late"})
_DECADES = range(1100, 2100)


def ordinal(text: str, number: WrittenNumber, at: int, words: NumberWords) -> Found:
    """2nd, 1er, 3.º: whatever the language writes behind the digits."""
    end = written.ORDINAL_END.match(text, number.end)
    if end is None or len(number.whole) > 6 or goes_on(text, end.end()):
        return None
    if written.NOT_A_RANGE.match(text, end.end()):  # 1e-5
        return None
    if end[0] not in {ending for ending, _, _ in words.language.ordinal_ends}:
        return None
    return found_at(end.end(), words.ordinal(int(number.whole), end[0]))


def day(text: str, number: WrittenNumber, at: int, words: NumberWords) -> Found:
    """A day beside the name of its month."""
    if len(number.whole) > 2 or not 1 <= int(number.whole) <= 31:
        return None
    after = written.NEXT_WORD.match(text, number.end)
    before = word_before(text, at)
    if after and after["word"] in words.months and (not after["point"] or words.day_is_ordinal):
        return found_at(number.end + len(after["point"]), words.day(int(number.whole), before))
    if words.code == ENGLISH and before in words.months and not goes_on(text, number.end):
        return found_at(number.end, words.day(int(number.whole), before))
    return None


def decade(text: str, number: WrittenNumber, at: int, words: NumberWords) -> Found:
    """ "1990s", "the 90s", "his 20s", "mid-90s" and "'90s": "90s" alone are seconds."""
    end, value = written.DECADE.match(text, number.end), int(number.whole)
    if end is None or words.code != ENGLISH or value % 10 or text[at] == "0":
        return None
    if len(number.whole) == 2:
        behind = text[max(0, at - 4) : at].lower()
        if word_before(text, at).lower() not in _BEFORE_A_DECADE and not behind.endswith(("mid-", "'", "’")):
            return None
    elif value not in _DECADES:
        return None
    spoken = words.year(value)
    several = spoken and (spoken.removesuffix("y") + "ies" if spoken.endswith("y") else spoken + "s")
    return found_at(end.end(), several)


def dotted_ordinal(text: str, number: WrittenNumber, at: int, words: NumberWords) -> Found:
    """ "im 19. Jahrhundert" in German. Without an article, and in other languages that write ordinals so, "19." stays:
    it may be an ordinal or the end of a sentence."""
    follows = written.DOTTED_ORDINAL.match(text, number.end)
    how = words.language.dotted_ordinals
    if how is None or follows is None or len(number.whole) > 3:
        return None
    if how == "any" or follows["letter"].islower():
        spoken = words.behind_article(int(number.whole), word_before(text, at))
        return (number.end + 1, spoken) if spoken else (number.end, text[at : number.end])
    return None
