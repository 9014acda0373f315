"""The languages whose numbers are read as words, and what the libraries do not know of them. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

OrdinalEnd = tuple[str, str, str]


@dataclass(frozen=True)
class NumberLanguage:
    """One language.

    point, minus, to: the words in "3.5", "-5" and "5-10"; `to` None leaves the hyphen.
    time, hour: of a time with minutes and at the full hour; h and m are their words.
    one_hour: the word for one and both forms at one o'clock, where they differ.  hour_mark: what may follow a time
    and is in its words already.
    before_noun: endings of a number that change before a noun, the first that fits.
    ordinal_ends: what is written after the digits of an ordinal, and which ending of its word another then replaces.
    day_before: words after which the ordinal of a day gets `day_ending`.
    of: the word between a million and what is counted.  libraries: its code for num2words and for CLDR.
    """

    point: str
    minus: str
    to: str | None
    time: str = "{h} {m}"
    hour: str = "{h}"
    one_hour: tuple[str, str, str] | None = None
    hour_mark: str = ""
    before_noun: tuple[tuple[str, str], ...] = ()
    ordinal_ends: tuple[OrdinalEnd, ...] = ()
    day_before: frozenset[str] = frozenset()
    day_ending: str = ""
    of: str = ""
    libraries: tuple[str, str] | None = None


_ROMANCE_ENDS: tuple[OrdinalEnd, ...] = (("º", "", ""), ("ª", "o", "a"), (".º", "", ""), (".ª", "o", "a"))

LANGUAGES: Mapping[str, NumberLanguage] = MappingProxyType(
    {
        "en": NumberLanguage(
            "point",
            "minus",
            "to",
            ordinal_ends=(("st", "", ""), ("nd", "", ""), ("rd", "", ""), ("th", "", "")),
        ),
        "de": NumberLanguage(
            "Komma",
            "minus",
            "bis",
            time="{h} Uhr {m}",
            hour="{h} Uhr",
            hour_mark=" Uhr",
            before_noun=(("eins", "ein"),),
            day_before=frozenset({"am", "vom", "zum", "beim", "dem", "den", "im", "ab", "bis", "seit", "des"}),
            day_ending="n",
        ),
        "fr": NumberLanguage(
            "virgule",
            "moins",
            "à",
            time="{h} heures {m}",
            hour="{h} heures",
            one_hour=("une", "{h} heure {m}", "{h} heure"),
            ordinal_ends=(("er", "", ""), ("re", "premier", "première"), ("e", "", ""), ("ème", "", "")),
            of="de",
        ),
        "es": NumberLanguage(
            "coma",
            "menos",
            "a",
            time="{h} y {m}",
            one_hour=("una", "{h} y {m}", "{h}"),
            before_noun=(("veintiuno", "veintiún"), ("uno", "un")),
            ordinal_ends=_ROMANCE_ENDS,
            of="de",
        ),
        "it": NumberLanguage(
            "virgola",
            "meno",
            "a",
            time="{h} e {m}",
            one_hour=("una", "{h} e {m}", "{h}"),
            before_noun=(("uno", "un"),),
            ordinal_ends=(("º", "", ""), ("ª", "o", "a")),
            of="di",
        ),
        "pt": NumberLanguage(
            "vírgula",
            "menos",
            "a",
            time="{h} e {m}",
            hour="{h} horas",
            one_hour=("uma", "{h} e {m}", "{h} hora"),
            ordinal_ends=_ROMANCE_ENDS,
            of="de",
        ),
        "nl": NumberLanguage(
            "komma",
            "min",
            "tot",
            time="{h} uur {m}",
            hour="{h} uur",
            hour_mark=" uur",
            ordinal_ends=(("e", "", ""), ("de", "", ""), ("ste", "", "")),
        ),
        "ca": NumberLanguage("coma", "menys", "a", of="de"),
        "cs": NumberLanguage("celá", "minus", "až"),
        "da": NumberLanguage("komma", "minus", "til"),
        "fi": NumberLanguage("pilkku", "miinus", None),
        "id": NumberLanguage("koma", "minus", "sampai"),
        "no": NumberLanguage("komma", "minus", "til", libraries=("no", "nb")),
        "pl": NumberLanguage("przecinek", "minus", "do"),
        "ro": NumberLanguage("virgulă", "minus", "până la", of="de"),
        "ru": NumberLanguage("запятая", "минус", None),
        "sv": NumberLanguage("komma", "minus", "till"),
        "uk": NumberLanguage("кома", "мінус", None),
    }
)
ENGLISH = "en"


def known_language(code: str) -> str | None:
    """The key of LANGUAGES for a code such as "de", "DE" or "de-AT"; None for a language that is not read."""
    language = code.replace("_", "-").partition("-")[0].lower()
    language = {"nb": "no", "nn": "no"}.get(language, language)
    return language if language in LANGUAGES else None
