"""What numbers look like in a text. Every pattern is bounded, and none is anchored: they are matched at a digit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from higgs_core.text.markup import UNBROKEN

NEXT = re.compile(
    rf"{UNBROKEN.pattern}|\[[^\[\]\n]{{1,100}}\]|</?[A-Za-z][^<>\n]{{0,200}}>|(?:https?://|www\.)[^\s]+"
    r"|(?P<digit>[0-9])"
)
"""What is looked at next: markup, a bracketed name, a tag or an address, which stay, or a digit."""

IDENTIFIER = re.compile(r"(?:[\w@#/\\.:^-]|,(?=[0-9])){0,64}")
"""What stays with a digit that stands in the middle of a name, a version or an address."""

FOLLOWS = re.compile(r"[\w@#\\/^]|[.:][0-9]|\.[^\W\d_]")
"""After a number these make it a part of something else."""

DATE = re.compile(r"([0-9]{4})([-/])([0-9]{2})\2([0-9]{2})(?![0-9/-])")
DAY_FIRST = re.compile(r"([0-9]{1,2})([./-])([0-9]{1,2})\2([0-9]{4})(?![0-9])")
TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?![0-9:])")
TIME_WITH_H = re.compile(r"([0-9]{1,2}) ?h ?([0-9]{2})(?![0-9])")
TIME_WITH_POINT = re.compile(r"([0-9]{1,2})\.([0-9]{2})(?![0-9]|[.,:][0-9])")
TIME_RANGE = re.compile(r" ?[-–] ?[0-9]{1,2}\.[0-9]{2}")
HALF_OF_DAY = re.compile(r" ?([AaPp])(\.[Mm]\.|[Mm])(?![A-Za-z])")
HOUR = re.compile(r"([0-9]{1,2})(?= ?[AaPp](?:\.[Mm]\.|[Mm](?![A-Za-z])))")
HOUR_DIGITS = re.compile(r"[0-9]{1,2}(?![0-9])")
FRACTION = re.compile(r"(?:([0-9]{1,3}) )?([0-9]{1,3})/([0-9]{1,3})(?![0-9/])")

TELEPHONES = (
    re.compile(r"[0-9]{1,6}(?:-[0-9]{1,6}){2,6}(?![0-9-])"),
    re.compile(r"0[0-9](?: [0-9]{2}){4}(?![0-9-])"),
    re.compile(r"0(?:[0-9]{2,14}(?:[ /-][0-9]{2,10}){1,5}|[0-9]{1,14})(?![0-9-])"),
    re.compile(r"[0-9]{10,40}(?![0-9.,])"),
)
BEHIND_PARENTHESIS = re.compile(
    r"(?:[0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}|0[0-9]{1,5}\) ?[0-9]{2,8}(?:[ /-][0-9]{2,8}){0,3})(?![0-9-])"
)
ENGLISH_TELEPHONE = re.compile(r"[0-9]{3}(?:-| [0-9]{3}[ -])[0-9]{4}(?![0-9-])")
INTERNATIONAL = re.compile(r"[0-9]{1,15}(?:(?: ?\(|[ .-])[0-9]{1,10}\)?){0,6}(?![0-9-])")
"""Behind a plus sign."""

DIGITS = re.compile(r"[0-9]{1,40}")

DOTTED = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){2,8}")
"""A version or an address of a machine."""

COMMAS = re.compile(r"[0-9]{1,6}(?:,[0-9]{1,6}){2,8}")
"""A list without spaces."""

ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
"""Of a machine, if no part is above 255."""

_FRACTION = r"(?P<fraction>[0-9]{1,15})(?![0-9]|[.,][0-9])"
_BEFORE_UNIT = r"(?=[ \u00a0]?(?:[%°€£]|(?:EUR|km|cm|mm|m|kg|mg|g|ml|l|L|h|GB|MB)(?!\w)))"
IN_ANY_LANGUAGE = (
    # Both marks, so that the last one is the decimal one: 1.234,56 and 1,234.56.
    re.compile(rf"(?P<whole>[0-9]{{1,3}}(?:\.[0-9]{{3}}){{1,8}}),{_FRACTION}"),
    re.compile(rf"(?P<whole>[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,8}})\.{_FRACTION}"),
    re.compile(r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){2,8})(?![0-9]|,[0-9])(?:\.(?P<fraction>[0-9]{1,15}))?"),
    re.compile(r"(?P<whole>[0-9]{1,2}(?:,[0-9]{2}){1,5},[0-9]{3})(?![0-9]|,[0-9])(?:\.(?P<fraction>[0-9]{1,15}))?"),
    re.compile(r"(?P<whole>[0-9]{1,3}(?:['’][0-9]{3}){1,8})(?![0-9])(?:[.,](?P<fraction>[0-9]{1,15}))?"),
    re.compile("(?P<whole>[0-9]{1,3}(?:[\u00a0\u2009\u202f][0-9]{3}){1,8})(?![0-9])(?:[.,](?P<fraction>[0-9]{1,15}))?"),
    re.compile(r"(?P<whole>[0-9]{1,3}(?: [0-9]{3}){0,7} 000)(?![0-9])(?:[.,](?P<fraction>[0-9]{1,15}))?"),
    re.compile(rf"(?P<whole>)\.{_FRACTION}"),
    re.compile(rf"(?P<whole>[0-9]{{1,15}}),(?P<fraction>[0-9]{{1,2}})(?![0-9]){_BEFORE_UNIT}"),
)
"""What can be read in one way only: thousands apart as other countries do, ".5", and a comma that no list can have."""

CENTS_WITH_COMMA = re.compile(r"(?P<whole>[0-9]{1,15}),(?P<fraction>[0-9]{2})(?![0-9]|[.,][0-9])")
"""Behind a currency."""

COMMA_GROUPS = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){1,8}(?![0-9])|[0-9]{1,40})(?:\.(?P<fraction>[0-9]{1,15}))?"
)
POINT_GROUPS = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:\.[0-9]{3}){1,8}(?![0-9])|[0-9]{1,40})"
    r"(?:,(?P<fraction>[0-9]{1,15})|\.(?P<point>[0-9]{1,2}(?![0-9.,])))?"
)
SPACE_GROUPS = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3}){1,8}(?![0-9])|[0-9]{1,40})"
    r"(?:,(?P<fraction>[0-9]{1,15})|\.(?P<point>[0-9]{1,2}(?![0-9.,])))?"  # 1.000 may be a thousand, or one
)
"""A number with thousands apart, in the three ways of writing it."""

DASH = re.compile(r"(?: [–—] |[-–—])(?=[0-9])")
NOT_A_RANGE = re.compile(r"[-–—][0-9]")
ORDINAL_END = re.compile(r"\.?(?:[a-zè]{1,3}|º|ª)")
DOTTED_ORDINAL = re.compile(r"\.[ \u00a0](?P<letter>[^\W\d_])")
DECADE = re.compile(r"'?s(?!\w)")
NEXT_WORD = re.compile(r"(?P<point>\.?)[ \u00a0](?:de |of )?(?P<word>[^\W\d_]{3,12})")
SCALE = re.compile(
    r"[ \u00a0](?P<scale>thousand|million|billion|trillion|Millionen|Million|Milliarden|Milliarde|Billionen|Billion"
    r"|millions|milliards|milliard|millones|millón|milioni|milione|miliardi|miliardo|milhões|milhão|bilhões|bilhão"
    r"|miljoen|miljard|mil|Mio\.|Mrd\.)(?!\w)"
)
SHORT_SCALE = re.compile(r"(?P<scale>bn|tn|[BKMTkm])(?!\w|\.\w)")
SCALES: Mapping[str, str] = MappingProxyType(
    {"bn": "billion", "B": "billion", "tn": "trillion", "T": "trillion", "M": "million", "m": "million"}
    | {"K": "thousand", "k": "thousand", "Mio.": "Millionen", "Mrd.": "Milliarden"}
)
"""What shortened words for large numbers are in full."""

NUMBER_SIGN = re.compile(r"[Nn]os?\.[ \u00a0]?(?=[0-9])")
"""Its own sentence as well: "No. 5 people came." """
CURRENCY_BEFORE = re.compile(
    r"(?=[US€$£¥₹EGC])(?:(?:US\$|€|\$|£|¥|₹)[ \u00a0]?|(?:EUR|USD|GBP|CHF)[ \u00a0])(?=\.?[0-9])"
)
CURRENCY_AFTER = re.compile(r"[ \u00a0\u202f]?(?P<currency>[€$£¥₹]|[A-Zz][A-Zčł]{1,2})(?!\w)")
"""Perhaps a key of CURRENCIES."""

_CODES = ("EUR", "USD", "GBP", "CHF", "JPY", "PLN", "SEK", "DKK", "NOK", "CZK", "INR")
_SIGNS = {"US$": "USD", "$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN", "Kč": "CZK"}
CURRENCIES: Mapping[str, str] = MappingProxyType(_SIGNS | {code: code for code in _CODES})

UNIT = re.compile(r"[ \u00a0\u202f]?(?P<unit>[%‰°µA-Za-z²³/]{1,5})")
"""Perhaps a key of UNITS."""
