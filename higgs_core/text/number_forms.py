"""Forms of numbers that read the same whatever stands around them: dates, times, telephone numbers, fractions.

A form is tried at a digit. It gives where it ends and its words, or None where it does not fit.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from higgs_core.text import number_patterns as written
from higgs_core.text.number_languages import ENGLISH
from higgs_core.text.number_words import NumberWords

_MOST_OF_A_DENOMINATOR = 100
_LONGEST_WORD = 16

Found = tuple[int, str] | None
"""Where a form ends in the text, and its words."""


@dataclass(frozen=True)
class WrittenNumber:
    """A number as it is written: its digits without what groups them, and where it ends."""

    whole: str
    fraction: str
    end: int


def number_at(text: str, at: int, words: NumberWords) -> WrittenNumber:
    """The plain number whose first digit stands at `at`, thousands and decimals as the language writes them."""
    groups = {",": written.COMMA_GROUPS, ".": written.POINT_GROUPS}
    found = groups.get(words.group, written.SPACE_GROUPS).match(text, at)
    assert found is not None  # a digit stands there
    parts = found.groupdict()
    whole = "".join(written.DIGITS.findall(parts["whole"]))
    return WrittenNumber(whole, parts["fraction"] or parts.get("point") or "", found.end())


def found_at(end: int, spoken: str | None) -> Found:
    """A form that ends there; None where the libraries cannot read it."""
    return None if not spoken else (end, spoken)


def goes_on(text: str, end: int) -> bool:
    """Whether what follows makes the number a part of something else."""
    return written.FOLLOWS.match(text, end) is not None


def word_before(text: str, at: int) -> str:
    """The word before a number, "" where something else stands there."""
    before = text[max(0, at - _LONGEST_WORD) : at].rstrip(" \u00a0").split(" ")[-1].rstrip(".")
    return before if before.isalpha() else ""


def as_written(text: str, start: int, at: int) -> tuple[int, str]:
    """What stands between `start` and the end of the name or number around `at`, as it is."""
    end = end_of(written.IDENTIFIER, text, at)
    while end > at + 1 and text[end - 1] in ".:-":
        end -= 1
    return end, text[start:end]


def end_of(form: re.Pattern[str], text: str, at: int) -> int:
    found = form.match(text, at)
    return at if found is None else found.end()


def date(text: str, at: int, words: NumberWords) -> Found:
    """2026-11-22, 22.11.2026, and 11/22/2026 in English or 22/11/2026 elsewhere."""
    if found := written.DATE.match(text, at):
        year, month, day = int(found[1]), int(found[3]), int(found[4])
    else:
        if (found := written.DAY_FIRST.match(text, at)) is None:
            return None
        day, month, year = int(found[1]), int(found[3]), int(found[4])
        if found[2] == "/" and words.code == ENGLISH:
            day, month = month, day
    if goes_on(text, found.end()):
        return None
    try:
        day_meant = datetime.date(year, month, day)
    except ValueError:
        return None
    return found_at(found.end(), words.date(day_meant, word_before(text, at)))


def time(text: str, at: int, words: NumberWords) -> Found:
    """14:30, 2:05 pm and 5pm in English, 14h30 in French, Spanish and Portuguese."""
    found = written.TIME.match(text, at)
    if not found and words.code in ("fr", "pt", "es"):
        found = written.TIME_WITH_H.match(text, at)
    hour_only = written.HOUR.match(text, at) if words.code == ENGLISH and not found else None
    found = found or hour_only
    if not found:
        return None
    hour, minute = int(found[1]), 0 if hour_only else int(found[2])
    if hour > 23 or minute > 59:
        return None
    end = found.end()
    half = written.HALF_OF_DAY.match(text, end) if words.code == ENGLISH else None
    if half:
        spoken = words.time(hour, minute) if minute else words.cardinal(hour)
        point = "" if text.startswith(".", half.end()) else "."
        return found_at(half.end(), spoken and f"{spoken} {half[1].lower()}.m{point}")
    mark = words.language.hour_mark
    if mark and text.startswith(mark, end):
        end += len(mark)
    return None if goes_on(text, end) else found_at(end, words.time(hour, minute))


def telephone(text: str, at: int, words: NumberWords) -> Found:
    """A run of digits that is read digit by digit: a telephone number, a leading zero, ten digits or more."""
    behind_parenthesis, *others = written.TELEPHONES
    if at and text[at - 1] == "(" and (found := behind_parenthesis.match(text, at)):
        spoken = in_groups(found[0], words)
        return found_at(found.end(), spoken and spoken.replace(",", "),", 1))
    if words.code != ENGLISH:
        others = [form for form in others if form is not written.TELEPHONES[2]]
    for form in others:
        found = form.match(text, at)
        if found and not goes_on(text, found.end()):
            return found_at(found.end(), in_groups(found[0], words))
    return None


def in_groups(run: str, words: NumberWords) -> str | None:
    """Digit by digit, with a comma between groups."""
    groups = [words.digits(group) for group in written.DIGITS.findall(run)]
    return None if None in groups else ", ".join(group for group in groups if group)


def fraction(text: str, at: int, words: NumberWords) -> Found:
    """1/2 and 3/4 in English; whatever else has a slash stays as it is."""
    found = written.FRACTION.match(text, at)
    if not found:
        return None
    above, below = int(found[1]), int(found[2])
    if words.code != ENGLISH or not 0 < above < below <= _MOST_OF_A_DENOMINATOR or goes_on(text, found.end()):
        return as_written(text, at, at)
    name = {2: "half", 4: "quarter"}.get(below) or words.ordinal(below)
    counted = words.cardinal(above)
    return found_at(found.end(), counted and name and f"{counted} {name}{'s' if above > 1 else ''}")


def version(text: str, at: int, words: NumberWords) -> Found:
    """What has two points or more and is no number with thousands apart stays as it is."""
    found = written.DOTTED.match(text, at)
    number = number_at(text, at, words)
    return None if found is None or number.end >= found.end() else as_written(text, at, at)
