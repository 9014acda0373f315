"""Forms of numbers that read the same whatever stands around them: dates, times, telephone numbers, fractions.

A form is tried at a digit. It gives where it ends and its words, or None where it does not fit.
"""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass

from higgs_core.text import number_patterns as written
from higgs_core.text.number_languages import ENGLISH
from higgs_core.text.number_words import NumberWords

_DENOMINATORS = (2, 3, 4, 5, 6, 8, 16, 32, 64)
_LONGEST_WORD = 16
_MOST_IN_ADDRESS = 255

Found = tuple[int, str] | None
"""Where a form ends in the text, and its words."""


@dataclass(frozen=True)
class WrittenNumber:
    """A number as it is written: its digits without what groups them, and where it ends."""

    whole: str
    fraction: str
    end: int


def number_at(text: str, at: int, words: NumberWords) -> WrittenNumber:
    """The plain number that begins at `at`, thousands and decimals as the language writes them."""
    for form in written.IN_ANY_LANGUAGE:
        if (found := form.match(text, at)) is not None:
            whole = "".join(written.DIGITS.findall(found["whole"])) or "0"
            return WrittenNumber(whole, found["fraction"] or "", found.end())
    groups = {",": written.COMMA_GROUPS, ".": written.POINT_GROUPS}
    found = groups.get(words.group, written.SPACE_GROUPS).match(text, at)
    if found is None:  # a point before what is no number
        return WrittenNumber("0", "", at)
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
        if found[2] == "/" and (day <= 12 if words.code == ENGLISH else month > 12):
            day, month = month, day
    if goes_on(text, found.end()):
        return None
    try:
        day_meant = datetime.date(year, month, day)
    except ValueError:
        return None
    return found_at(found.end(), words.date(day_meant, word_before(text, at)))


def time(text: str, at: int, words: NumberWords) -> Found:
    """14:30, 2:05 pm and 5pm in English, 14h30 in French, Spanish and Portuguese, 9.30 and 9 before the word "Uhr"."""
    found, mark = written.TIME.match(text, at), words.language.hour_mark
    if not found and (with_point := written.TIME_WITH_POINT.match(text, at)):
        end_of_range = end_of(written.TIME_RANGE, text, with_point.end())  # 9.30-17.00 Uhr
        has_mark = bool(mark) and _is_word(text, end_of_range, mark)
        found = with_point if has_mark or word_before(text, at).lower() in words.language.time_before else None
    if not found and words.code in ("fr", "pt", "es"):
        found = written.TIME_WITH_H.match(text, at)
    hour_only = None
    if not found and words.code == ENGLISH:
        hour_only = written.HOUR.match(text, at)
    elif not found and mark and (hour_found := written.HOUR_DIGITS.match(text, at)):
        hour_only = hour_found if _is_word(text, hour_found.end(), mark) else None
    found = found or hour_only
    if not found:
        return None
    hour, minute = (int(hour_only[0]), 0) if hour_only else (int(found[1]), int(found[2]))
    if hour > 23 or minute > 59:
        return None
    end = found.end()
    half = written.HALF_OF_DAY.match(text, end) if words.code == ENGLISH else None
    if half:
        spoken = words.time(hour, minute) if minute else words.cardinal(hour)
        point = "" if text.startswith(".", half.end()) else "."
        return found_at(half.end(), spoken and f"{spoken} {half[1].lower()}.m{point}")
    if mark and _is_word(text, end, mark):
        end += len(mark)
    return None if goes_on(text, end) else found_at(end, words.time(hour, minute))


def _is_word(text: str, at: int, word: str) -> bool:
    """Whether the word, space before it and all, stands there and ends."""
    return text.startswith(word, at) and not text[at + len(word) :][:1].isalnum()


def telephone(text: str, at: int, words: NumberWords) -> Found:
    """A run of digits that is read digit by digit: a telephone number, a leading zero, ten digits or more."""
    if at and text[at - 1] == "(" and (found := written.BEHIND_PARENTHESIS.match(text, at)):
        spoken = in_groups(found[0], words)
        return found_at(found.end(), spoken and spoken.replace(",", "),", 1))
    forms = written.TELEPHONES
    for form in (*forms, written.ENGLISH_TELEPHONE) if words.code == ENGLISH else forms:
        found = form.match(text, at)
        if found and not goes_on(text, found.end()):
            return found_at(found.end(), in_groups(found[0], words))
    return None


def in_groups(run: str, words: NumberWords) -> str | None:
    """Digit by digit, with a comma between groups."""
    groups = [words.digits(group) for group in written.DIGITS.findall(run)]
    return None if None in groups else ", ".join(group for group in groups if group)


def fraction(text: str, at: int, words: NumberWords) -> Found:
    """1/2, 3/4 and 2 3/4 in English; whatever else has a slash, such as 24/7 and 9/11, stays as it is."""
    found = written.FRACTION.match(text, at)
    if not found:
        return None
    above, below = int(found[2]), int(found[3])
    is_usual = 0 < above < below and math.gcd(above, below) == 1 and below in _DENOMINATORS
    if words.code != ENGLISH or not is_usual or goes_on(text, found.end()):
        return as_written(text, at, found.start(2))
    name = {2: "half", 4: "quarter"}.get(below) or words.ordinal(below)
    whole = f"{words.cardinal(int(found[1]))} and " if found[1] else ""
    counted = words.cardinal(above)
    return found_at(found.end(), counted and name and f"{whole}{counted} {name}{'s' if above > 1 else ''}")


def version(text: str, at: int, words: NumberWords) -> Found:
    """What has two points or commas and is no number with thousands apart stays as it is, and so does an address."""
    address = written.ADDRESS.match(text, at)
    if address and all(int(part) <= _MOST_IN_ADDRESS for part in address[0].split(".")):
        return as_written(text, at, at)
    found = written.DOTTED.match(text, at) or written.COMMAS.match(text, at)
    number = number_at(text, at, words)
    return None if found is None or number.end >= found.end() else as_written(text, at, at)
