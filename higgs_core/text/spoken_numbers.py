"""Numbers in a text as the words that are said for them. Loads its libraries only when it is called.

The text is read once from its beginning. At each digit the forms are tried from the most particular to the plain
number; what none of them fits, or what the libraries cannot read, stays as it is written.
"""

from __future__ import annotations

import re

from higgs_core.text import number_patterns as written
from higgs_core.text.number_forms import (
    Found,
    WrittenNumber,
    as_written,
    date,
    end_of,
    found_at,
    fraction,
    goes_on,
    in_groups,
    number_at,
    telephone,
    time,
    version,
    word_before,
)
from higgs_core.text.number_languages import ENGLISH
from higgs_core.text.number_ranks import day, decade, dotted_ordinal, ordinal
from higgs_core.text.number_units import UNITS
from higgs_core.text.number_words import NumberWords, number_words

_MINUS = "-−–"
_BEFORE_A_SIGN = "([{\"'“„«"  # and white space
_CURRENCY_SIGNS = "€$£¥₹"
_INSIDE_A_NAME = "_@#/\\^"
_YEARS = range(1900, 2100)  # a number that is a year wherever it stands
_OLDER_YEARS = range(1000, 2100)
_BEFORE_A_YEAR = frozenset({"in", "since", "by", "until", "from", "of", "year", "before", "after", "around", "circa"})
_ELIDING = ("fr", "ca")  # their "de" loses its vowel before another
_FORMS = (date, time, telephone, fraction, version)
_RANKS = (ordinal, day, decade, dotted_ordinal)


def spoken_numbers(text: str, language: str) -> str:
    """The text with its numbers as words. language: a key of LANGUAGES.

    Markup, bracketed names and tags, addresses, versions and names with digits in them stay. The time is linear in the
    text, as every form is bounded.
    """
    return _Reader(text, number_words(language)).read()


class _Reader:
    def __init__(self, text: str, words: NumberWords) -> None:
        self._text = text
        self._words = words

    def read(self) -> str:
        parts: list[str] = []
        done = 0
        while (found := written.NEXT.search(self._text, done)) is not None:
            if found["digit"] is None:
                parts.append(self._text[done : found.end()])
                done = found.end()
                continue
            at = self._first_of(found.start(), done)
            if self._is_inside_a_name(at):
                end = end_of(written.IDENTIFIER, self._text, at)
                parts.append(self._text[done:end])
                done = end
                continue
            start, done_before = self._start(at, done), done
            done, words = self._form_at(start, at)
            parts += [self._text[done_before:start], words]
        return "".join([*parts, self._text[done:]])

    def _form_at(self, start: int, at: int) -> tuple[int, str]:
        """The end of what is read, and its words: its own text where nothing reads it."""
        text = self._text
        if self._has_number_sign(at):
            return as_written(text, start, at)
        if start < at and text[start] in _MINUS:
            return self._negative(start, at) or as_written(text, start, at)
        if start < at and text[start] == "+":
            whole = written.INTERNATIONAL.match(text, at)
            words = in_groups(whole[0], self._words) if whole and sum(map(str.isdigit, whole[0])) > 6 else None
            return (whole.end(), words) if whole and words else as_written(text, start, at)
        if start < at:
            return self._amount_behind(start, at) or as_written(text, start, at)
        for form in _FORMS:
            if (read := form(text, at, self._words)) is not None:
                return read
        return self._amount(at) or self._range(at) or self._one(at) or as_written(text, start, at)

    def _first_of(self, digit: int, done: int) -> int:
        """Where the number of a digit begins: one place before in ".5"."""
        point = digit - 1
        if point < done or self._text[point] != ".":
            return digit
        before = self._text[point - 1] if point else " "
        return point if before.isspace() or before in _MINUS + _BEFORE_A_SIGN + _CURRENCY_SIGNS else digit

    def _has_number_sign(self, at: int) -> bool:
        """Whether "No." stands before, which may be a sentence too."""
        return any(
            (sign := written.NUMBER_SIGN.match(self._text, begin)) is not None
            and sign.end() == at
            and not (begin and self._text[begin - 1].isalnum())
            for begin in range(max(0, at - 5), at)
        )

    def _is_inside_a_name(self, at: int) -> bool:
        """Whether what stands before a digit makes it a part of a name, a version or an address."""
        before = self._text[at - 1] if at else " "
        if before == ".":
            return at > 1 and self._text[at - 2].isalnum()
        return before.isalnum() or before in _INSIDE_A_NAME

    def _start(self, at: int, done: int) -> int:
        """Where the number begins with its sign or currency."""
        for length in (4, 3, 2, 1):
            begin = at - length
            if begin >= done and (sign := written.CURRENCY_BEFORE.match(self._text, begin)) and sign.end() == at:
                if sign[0][0].isalpha() and begin and self._text[begin - 1].isalnum():
                    continue  # the end of a word
                return begin - 1 if self._is_sign(begin - 1, done, _MINUS) else begin
        return at - 1 if self._is_sign(at - 1, done, _MINUS + "+") else at

    def _is_sign(self, at: int, done: int, signs: str) -> bool:
        if at < done or self._text[at] not in signs:
            return False
        before = self._text[at - 1] if at else " "
        return before.isspace() or before in _BEFORE_A_SIGN

    def _number(self, at: int) -> WrittenNumber:
        return number_at(self._text, at, self._words)

    def _amount(self, at: int) -> Found:
        """A number with a currency after it."""
        number = self._number(at)
        scale = written.SCALE.match(self._text, number.end)
        sign = written.CURRENCY_AFTER.match(self._text, scale.end() if scale else number.end)
        if sign is None or sign["currency"] not in written.CURRENCIES:
            return None
        return self._money(number, scale, sign["currency"], sign.end())

    def _amount_behind(self, start: int, at: int) -> Found:
        """A number with a currency before it; a range of two has it once or twice."""
        sign = self._text[start:at].strip()  # one of CURRENCY_BEFORE
        number = self._number(at)
        if cents := written.CENTS_WITH_COMMA.match(self._text, at):
            number = WrittenNumber(cents["whole"], cents["fraction"], cents.end())
        dash = written.DASH.match(self._text, number.end)
        to = self._words.language.to
        if dash and to and not number.fraction and not (second := self._number(dash.end())).fraction:
            last = self._money(second, self._scale(second.end), sign, second.end)
            first = self._words.number(number.whole)
            return found_at(last[0], first and f"{first} {to} {last[1]}") if last else None
        return self._money(number, self._scale(number.end), sign, number.end)

    def _scale(self, at: int) -> re.Match[str] | None:
        """The word for a large number, or its letter in English, behind a currency's number."""
        scale = written.SCALE.match(self._text, at)
        is_english = self._words.code == ENGLISH
        return scale or (written.SHORT_SCALE.match(self._text, at) if is_english else None)

    def _money(self, number: WrittenNumber, scale: re.Match[str] | None, sign: str, end: int) -> Found:
        currency = written.CURRENCIES[sign]
        if scale:
            if written.DASH.match(self._text, scale.end()):  # $10K-20K
                return None
            counted, of = self._words.number(number.whole, number.fraction), self._words.language.of
            large = written.SCALES.get(scale["scale"], scale["scale"])
            if large == "mil":
                of = ""
            name = self._words.money_name(currency)
            if of == "de" and self._words.code in _ELIDING and name[:1].lower() in "aeiouhéè":
                of, name = "", f"d'{name}"
            words = counted and " ".join(filter(None, (*self._words.large(counted, large), of, name)))
            return found_at(max(end, scale.end()), words)
        per_something = self._text[end : end + 1] == "/" and self._text[end + 1 : end + 2].isalpha()  # $5/month
        if goes_on(self._text, end) and not per_something:
            return None
        return found_at(end, self._words.money(number.whole, number.fraction, currency))

    def _range(self, at: int) -> Found:
        first = self._number(at)
        dash, to = written.DASH.match(self._text, first.end), self._words.language.to
        if dash is None or to is None:
            return None
        second = self._number(dash.end())
        if written.NOT_A_RANGE.match(self._text, second.end):
            return None
        before, last = self._plain(first, at), self._amount(dash.end()) or self._one(dash.end())
        return found_at(last[0], before and f"{before} {to} {last[1]}") if last else None

    def _one(self, at: int) -> Found:
        """A number with its unit, an ordinal, a day, a year, or only a number."""
        number = self._number(at)
        if not number.fraction:
            for rank in _RANKS:
                if (read := rank(self._text, number, at, self._words)) is not None:
                    return read
        return self._counted(at, self._plain(number, at))

    def _counted(self, at: int, alone: str | None) -> Found:
        """A number with its unit, or `alone` where none follows."""
        number = self._number(at)
        unit = written.UNIT.match(self._text, number.end)
        if unit and unit[0] == "s" and self._is_round(number) and self._text.startswith(" of", unit.end()):
            return None  # "1000s of people" are no seconds
        if unit is None or unit["unit"] not in UNITS or goes_on(self._text, unit.end()):
            return None if goes_on(self._text, number.end) else found_at(number.end, alone)
        spoken = self._words.number(number.whole, number.fraction)
        named = spoken and self._words.unit(number.whole, number.fraction, spoken, UNITS[unit["unit"]])
        return found_at(unit.end(), named)

    def _negative(self, start: int, at: int) -> Found:
        """What follows a minus sign: an amount, or a number with or without a unit."""
        number = self._number(at)
        read = self._amount_behind(start + 1, at) if start + 1 < at else self._amount(at)
        read = read or self._counted(at, self._words.number(number.whole, number.fraction))
        return read and (read[0], f"{self._words.language.minus} {read[1]}")

    @staticmethod
    def _is_round(number: WrittenNumber) -> bool:
        return len(number.whole) > 2 and not number.whole[1:].strip("0")

    def _plain(self, number: WrittenNumber, at: int) -> str | None:
        """A number by itself, as a year where it looks like one."""
        if not number.fraction and len(number.whole) == 4 and number.end == at + 4:
            value = int(number.whole)
            if value in _YEARS or (value in _OLDER_YEARS and word_before(self._text, at).lower() in _BEFORE_A_YEAR):
                return self._words.year(value)
        return self._words.number(number.whole, number.fraction)
