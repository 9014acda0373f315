"""Numbers, money, times and abbreviations: how people write them, and the words that they are read as."""

from __future__ import annotations

import random

from num2words import num2words

ABBREVIATIONS = {
    "Dr.": "doctor", "Mr.": "mister", "Mrs.": "missus", "Ms.": "miz", "Prof.": "professor", "St.": "street",
    "Ave.": "avenue", "Rd.": "road", "vs.": "versus", "etc.": "et cetera", "e.g.": "for example",
    "i.e.": "that is", "approx.": "approximately", "Jr.": "junior", "Sr.": "senior",
    "Inc.": "incorporated", "Ltd.": "limited", "Co.": "company", "dept.": "department", "Jan.": "january",
    "Feb.": "february", "Aug.": "august", "Sept.": "september", "Oct.": "october", "Nov.": "november",
    "Dec.": "december", "Mon.": "monday", "Tues.": "tuesday", "Fri.": "friday", "Gen.": "general", "Capt.": "captain",
    "&": "and", "+": "plus", "=": "equals", "@": "at", "a.m.": "ay m", "p.m.": "p m", "U.S.": "u s", "OK": "okay",
}  # fmt: skip
UNITS = {
    "kg": "kilograms", "km": "kilometers", "cm": "centimeters", "mm": "millimeters", "m": "meters", "GB": "gigabytes",
    "MB": "megabytes", "mph": "miles an hour", "lbs": "pounds", "oz": "ounces", "ft": "feet", "ml": "milliliters",
    "%": "percent",
}  # fmt: skip
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
_LETTERS = {letter: letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"} | {"A": "ay"}  # "a" would be the article
_CURRENCIES = (
    *(("$", "dollar", "dollars", "cents"),) * 3,
    ("€", "euro", "euros", "cents"),
    ("£", "pound", "pounds", "pence"),
)

Written = tuple[str, str | None]
"""A written form and the words that it stands for; None where it is read as it is written."""


def number_words(number: int | float) -> str:
    """A number in words, without hyphens and \"and\"."""
    return str(num2words(number)).replace("-", " ").replace(",", "").replace(" and ", " ")


def form(rng: random.Random) -> list[Written]:
    """One written form, with the words that belong to it ("room 16")."""
    return rng.choice(_FORMS)(rng)


def _small(rng: random.Random) -> int:
    return rng.randint(0, 20) if rng.random() < 0.4 else rng.randint(0, 100) if rng.random() < 0.7 else _large(rng)


def _large(rng: random.Random) -> int:
    return rng.choice((rng.randint(100, 999), 100 * rng.randint(1, 99), rng.randint(1000, 9999)))


def _number(rng: random.Random) -> list[Written]:
    number = _small(rng)
    return [(f"{number:,}" if rng.random() < 0.7 else str(number), number_words(number))]


def _year(rng: random.Random) -> list[Written]:
    year = rng.randint(1900, 2029) if rng.random() < 0.8 else rng.randint(1100, 1899)
    return [("in", None), (str(year), year_words(year))]


def year_words(year: int) -> str:
    """A year as it is read: nineteen eighty four, two thousand five."""
    if year // 10 == 200:
        return number_words(year)
    century, rest = divmod(year, 100)
    end = "hundred" if rest == 0 else f"oh {number_words(rest)}" if rest < 10 else number_words(rest)
    return f"{number_words(century)} {end}"


def _decimal(rng: random.Random) -> list[Written]:
    whole, digits = rng.randint(0, 99), "".join(rng.choices("0123456789", k=rng.choice((1, 1, 2))))
    return [
        (f"{whole}.{digits}", f"{number_words(whole)} point {' '.join(number_words(int(digit)) for digit in digits)}")
    ]


def _unit(rng: random.Random) -> list[Written]:
    unit, name = rng.choice(list(UNITS.items()))
    number = _decimal(rng) if rng.random() < 0.25 else _number(rng)
    if unit == "%" or rng.random() < 0.3:
        return [(number[0][0] + unit, f"{number[0][1]} {name}")]
    return [*number, (unit, name)]


def _money(rng: random.Random) -> list[Written]:
    sign, one, many, cents_name = rng.choice(_CURRENCIES)
    amount, cents = _small(rng), rng.choice((0, rng.randint(1, 99)))
    spoken = f"{number_words(amount)} {one if amount == 1 else many}"
    if not cents:
        return [(f"{sign}{amount}", spoken)]
    return [(f"{sign}{amount}.{cents:02d}", f"{spoken} {number_words(cents)} {cents_name}")]


def _time(rng: random.Random) -> list[Written]:
    hour, minute = rng.randint(1, 12), rng.choice((0, 5, 15, 30, 45, rng.randint(1, 59)))
    end = "o clock" if minute == 0 else f"oh {number_words(minute)}" if minute < 10 else number_words(minute)
    half = rng.choice((None, None, "a.m.", "p.m."))
    written: list[Written] = [(f"{hour}:{minute:02d}", f"{number_words(hour)} {end}")]
    return written + ([(half, ABBREVIATIONS[half])] if half else [])


def _ordinal(rng: random.Random) -> list[Written]:
    number = rng.randint(1, 31) if rng.random() < 0.8 else rng.randint(32, 100)
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    word: Written = (f"{number}{suffix}", str(num2words(number, to="ordinal")).replace("-", " "))
    return [(rng.choice(MONTHS), None), word] if rng.random() < 0.5 and number < 32 else [word]


def _range(rng: random.Random) -> list[Written]:
    low = rng.randint(1, 60)
    high = low + rng.randint(1, 30)
    return [(f"{low}-{high}", f"{number_words(low)} to {number_words(high)}")]


def _abbreviation(rng: random.Random) -> list[Written]:
    return [rng.choice(list(ABBREVIATIONS.items()))]


def _initials(rng: random.Random) -> list[Written]:
    letters = rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.choice((2, 3, 3, 3, 4)))
    return [("".join(letters), " ".join(_LETTERS[letter] for letter in letters))]


_FORMS = (_number, _number, _number, _year, _decimal, _unit, _unit, _money, _money, _time, _time, _ordinal, _ordinal,
          _range, _abbreviation, _abbreviation, _abbreviation, _initials, _initials)  # fmt: skip
