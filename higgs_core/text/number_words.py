"""What a number is called: num2words for numbers, Babel (CLDR) for units, months and money. Both load on first use.

Whatever these cannot read is None, so that the text keeps it as it is written.
"""

from __future__ import annotations

import datetime
import re
import threading
from decimal import Decimal
from functools import cache, cached_property
from typing import Any

from higgs_core.text.number_genders import endings_before, with_ending
from higgs_core.text.number_languages import ENGLISH, LANGUAGES

_READING = threading.Lock()  # num2words' readers keep what they are reading in themselves
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
_DATE_PART = re.compile(r"'[^']{0,20}'|d\.?|y+|M+")
_MOST_DIGITS = 15  # what is longer is read digit by digit
_ENGLISH_MONEY = {
    "USD": ("dollar", "dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
}  # num2words calls them "euro" and "pound sterling"
_UNITS_THAT_CLDR_LACKS = {("nl", "duration-hour"): "uur"}
_HUNDREDS_OF_YEARS = {"sv": "hundra", "no": " hundre "}  # "nittonhundranittio", not "a thousand nine hundred"
_MISSPELT = {"sv": (("etttusen", "ettusen"),), "ro": (("una mie", "o mie"), ("una sută", "o sută"))}  # by num2words
_WITHOUT_CENTS = frozenset({"JPY"})


@cache
def number_words(language: str) -> NumberWords:
    """The words of a key of LANGUAGES."""
    return NumberWords(language)


class NumberWords:
    """Numbers in one language. Every method may be called from any thread; None stands for what cannot be read."""

    def __init__(self, language: str) -> None:
        from babel import Locale

        self.code = language
        self.language = LANGUAGES[language]
        self._speaker, locale = self.language.libraries or (language, language)
        self._locale = Locale.parse(locale)

    @cached_property
    def group(self) -> str:
        """What stands between thousands: "," or "." or a kind of space."""
        from babel.numbers import get_group_symbol

        return get_group_symbol(self._locale)

    @cached_property
    def months(self) -> frozenset[str]:
        """Names of months, full and short, as a text writes them."""
        from babel.dates import get_month_names

        tables = (
            get_month_names("wide", "format", self._locale),
            get_month_names("abbreviated", "format", self._locale),
            get_month_names("wide", "stand-alone", self._locale),
        )
        names = {str(name).rstrip(".") for table in tables for name in table.values()}
        return frozenset(name for name in names if len(name) >= 3)

    @property
    def day_is_ordinal(self) -> bool:
        """Whether dates are read with ordinals: "November twenty-second", "zweiundzwanzigster November"."""
        return self.code == ENGLISH or "d." in self._long_date

    @cached_property
    def _long_date(self) -> str:
        pattern = str(self._locale.date_formats["long"].pattern)
        return pattern[: pattern.rindex("y") + 1]  # without the word for "year"

    def cardinal(self, number: int) -> str | None:
        found = self._spoken(number) if number < 10**_MOST_DIGITS else None
        return found.replace(",", "") if found else found

    def ordinal(self, number: int, ending: str = "") -> str | None:
        """ending: what was written after the digits."""
        found = self._spoken(number, to="ordinal")
        for written, usual, spoken in self.language.ordinal_ends:
            if found is not None and written == ending and found.endswith(usual):
                return found.removesuffix(usual) + spoken
        return found

    def year(self, number: int) -> str | None:
        if self.code in (ENGLISH, "de", "nl", "da"):
            return self._spoken(number, to="year")
        if (between := _HUNDREDS_OF_YEARS.get(self.code)) is not None and number < 2000:
            century, rest = self.cardinal(number // 100), self.cardinal(number % 100) if number % 100 else ""
            return None if century is None or rest is None else f"{century}{between}{rest}"
        return self.cardinal(number)

    def digits(self, run: str) -> str | None:
        """Each digit of a run by itself."""
        words = [self.cardinal(int(digit)) for digit in run]
        return None if None in words else " ".join(word for word in words if word)

    def number(self, whole: str, fraction: str = "") -> str | None:
        """A number of digits; a fraction is read digit by digit."""
        words = self.digits(whole) if len(whole) > _MOST_DIGITS else self.cardinal(int(whole))
        if words is None:
            return None
        if fraction:
            after = self.digits(fraction)
            if after is None:
                return None
            words = f"{words} {self.language.point} {after}"
        return words

    def before_noun(self, words: str) -> str:
        """The number as it is said before what is counted: "ein" for "eins"."""
        return with_ending(words, self.language.before_noun)

    def large(self, count: str, name: str) -> tuple[str, str]:
        """A count and the word for a large number behind it, both as they are said together."""
        if self.code == "de" and count == "eins":
            return "eine", name.removesuffix("en") if name.startswith("Mill") and name.endswith("onen") else name
        return self.before_noun(count), name

    def unit(self, whole: str, fraction: str, words: str, unit: str) -> str | None:
        """`words`, which read the number, with CLDR's name of the unit in the number's plural form."""
        from babel.numbers import format_decimal
        from babel.units import format_unit

        value = Decimal(f"{whole}.{fraction}" if fraction else whole)  # "5.0" has another plural form than "5"
        pattern = "0." + "0" * len(fraction) if fraction else "0"
        try:
            written = format_decimal(value, pattern, self._locale)
            named = format_unit(value, unit, "long", pattern, self._locale)
        except _UNREADABLE:
            return None
        if written not in named:
            return None
        if unit in named:  # CLDR lacks its name
            name = _UNITS_THAT_CLDR_LACKS.get((self.code, unit))
            if name is None:
                return None
            named = named.replace(unit, name)
        if not fraction:
            words = with_ending(words, endings_before(self.code, unit) or self.language.before_noun)
        return " ".join(named.replace(written, words, 1).split())  # CLDR has spaces that do not break

    def money(self, whole: str, fraction: str, currency: str) -> str | None:
        """An amount with its cents, if it has two digits of them."""
        if len(whole) > _MOST_DIGITS or len(fraction) not in (0, 2) or (fraction and currency in _WITHOUT_CENTS):
            words = self.number(whole, fraction)
            return words and f"{words} {self.money_name(currency)}"
        cents = int(fraction or 0)
        if self.code == ENGLISH and currency in _ENGLISH_MONEY:
            one, many, cent, several = _ENGLISH_MONEY[currency]
            amount = f"{self.cardinal(int(whole))} {one if int(whole) == 1 else many}"
            rest = f"{self.cardinal(cents)} {cent if cents == 1 else several}"
            if not cents:
                return amount
            return f"{amount} and {rest}" if int(whole) else rest
        amount_of = Decimal(f"{whole}.{cents:02}")
        options: dict[str, Any] = {} if cents else {"separator": "|"}
        found = self._spoken(amount_of, to="currency", currency=currency, **options)
        if found is None:
            words = self.number(whole, fraction)
            count = amount_of if fraction else Decimal(whole)
            return words and f"{words if fraction else self.before_noun(words)} {self.money_name(currency, count)}"
        return (found if cents else found.partition("|")[0]).replace(",", "").strip()

    def money_name(self, currency: str, count: Decimal = Decimal(1_000_000)) -> str:
        """What a currency is called where there is so much of it."""
        from babel.numbers import get_currency_name

        if self.code == ENGLISH and currency in _ENGLISH_MONEY:
            return _ENGLISH_MONEY[currency][1]
        found = None
        if count == 1_000_000:
            found = self._spoken(Decimal("100.00"), to="currency", currency=currency, separator="|")
        hundred = self.cardinal(100)
        if found and hundred and found.startswith(f"{hundred} "):
            return found.removeprefix(f"{hundred} ").partition("|")[0].strip()
        return get_currency_name(currency, count, self._locale)

    def time(self, hour: int, minute: int) -> str | None:
        h, m = self.cardinal(hour), self.cardinal(minute)
        if h is None or m is None:
            return None
        if self.language.feminine_hours:
            h = with_ending(h, endings_before(self.code, "duration-hour"))
        form = self.language.time if minute else self.language.hour
        if hour == 1 and self.language.one_hour is not None:
            h, full, only = self.language.one_hour
            form = full if minute else only
        if self.code == ENGLISH:
            m = f"oh {m}" if minute < 10 else m
            form = form if minute else ("{h} hundred" if hour > 12 else "{h} o'clock" if hour else "midnight")
        return form.format(h=self.before_noun(h) if form.startswith("{h} Uhr") else h, m=m)

    def day(self, number: int, word_before: str) -> str | None:
        """The day of a month."""
        if not self.day_is_ordinal and not (number == 1 and self.code in ("fr", "it")):
            return self.cardinal(number)
        found = self.behind_article(number, word_before)
        if found is not None:
            return found
        found = self.ordinal(number)
        return found and f"{found}{self.language.day_alone}"

    def behind_article(self, number: int, word_before: str) -> str | None:
        """An ordinal with the ending that the article before it asks for; None without an article."""
        article = word_before.lower()
        if article in self.language.day_articles:
            return self.ordinal(number)
        found = self.ordinal(number) if article in self.language.day_before else None
        return found and f"{found}{self.language.day_ending}"

    def date(self, date: datetime.date, word_before: str) -> str | None:
        """A whole date, in the order of the language's long form."""
        from babel.dates import get_month_names

        day, year = self.day(date.day, word_before), self.year(date.year)
        if day is None or year is None:
            return None
        month = str(get_month_names("wide", "format", self._locale)[date.month])
        parts = {"d": day, "y": year, "M": month}
        return _DATE_PART.sub(lambda part: parts.get(part[0][0], part[0].strip("'")), self._long_date)

    def _spoken(self, number: int | Decimal, **how: Any) -> str | None:
        from num2words import num2words

        try:
            with _READING:
                words = num2words(number, lang=self._speaker, **how)
        except _UNREADABLE:
            return None
        spoken = str(words).strip()
        for wrong, right in _MISSPELT.get(self.code, ()):
            spoken = spoken.replace(wrong, right)
        return spoken or None
