"""Numbers before a unit take its gender: "une heure", "dwie minuty". CLDR's names of units do not tell it. Loads no
library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

Ending = tuple[str, str]
"""What a number ends in, and what it ends in before a noun. One space in front: a whole word; two: all of the words."""

Genders = tuple[tuple[frozenset[str], tuple[Ending, ...]], ...]
"""Units, as CLDR calls them, and the endings before them."""

_TIME = frozenset({"duration-minute", "duration-second", "duration-millisecond"})
_HOUR = frozenset({"duration-hour"})
_MILE = frozenset({"length-mile", "mass-ounce", "energy-kilocalorie"})
_POUND = frozenset({"mass-pound", "length-yard"})
_HECTARE = frozenset({"area-hectare"})
_GRAM = frozenset({"mass-gram", "mass-kilogram", "mass-milligram"})
_DEGREE = frozenset({"concentr-percent", "concentr-permille", "angle-degree"}) | {
    f"temperature-{scale}" for scale in ("celsius", "fahrenheit")
}

GENDERS: Mapping[str, Genders] = MappingProxyType(
    {
        "de": ((_HOUR | _TIME | _MILE, (("eins", "eine"),)),),
        "fr": ((_HOUR | _TIME | {"mass-ounce", "mass-pound", "energy-kilocalorie"}, ((" un", " une"),)),),
        "es": (
            (
                _HOUR | _MILE | _POUND | _HECTARE,
                (("veintiuno", "veintiuna"), (" uno", " una"), ("ientos", "ientas")),
            ),
        ),
        "it": ((_HOUR | _MILE | _POUND, (("  uno", "  una"), ("uno", "uno"))),),
        "pt": ((_HOUR | _MILE | _POUND, ((" um", " uma"), (" dois", " duas"))),),
        "ca": ((_HOUR | _MILE | _POUND | _HECTARE, (("un", "una"), ("dos", "dues"))),),
        "cs": (
            (_HOUR | _TIME | _MILE | {"mass-pound"}, ((" dva", " dvě"),)),
            (frozenset({"concentr-percent", "concentr-permille"}), (("  jedna", "  jedno"), (" dva", " dvě"))),
        ),
        "da": ((_TIME | _GRAM, ((" et", " et"),)),),
        "no": ((_TIME | _GRAM, (("  en", "  ett"),)),),
        "pl": ((_HOUR | _TIME | _MILE, (("  jeden", "  jedna"), (" dwa", " dwie"))),),
        "ro": (
            (
                _HOUR | _MILE | {"duration-second", "duration-millisecond", "mass-pound"},
                (("  unu", "  o"), (" unu", " una"), (" doi", " două")),
            ),
            (_GRAM | _DEGREE | _HECTARE | {"duration-minute", "length-foot"}, ((" unu", " un"), (" doi", " două"))),
        ),
        "ru": ((_TIME | _MILE, ((" один", " одна"), (" два", " две"))),),
        "sv": ((_GRAM | {"mass-pound"}, ((" ett", " ett"),)),),
        "uk": ((_HOUR | _TIME | _MILE, ((" один", " одна"), (" два", " дві"))),),
    }
)


def endings_before(language: str, unit: str) -> tuple[Ending, ...]:
    """The endings that a unit asks for; none where it has the gender that most nouns have."""
    return next((endings for units, endings in GENDERS.get(language, ()) if unit in units), ())


def with_ending(words: str, endings: Sequence[Ending]) -> str:
    """The words of a number with the first ending that fits."""
    padded = f"  {words}"
    for ending, before in endings:
        if padded.endswith(ending):
            return (padded.removesuffix(ending) + before).strip()
    return words
