"""The languages whose numbers are read as words, and what the libraries do not know of them. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

OrdinalEnd = tuple[str, str, str]


@dataclass(frozen=True)
class NumberLanguage:
    """One language.

    point, minus, to: the words in "3.5", "-5" and "5-10"; `to` None leaves the hyphen.
    time, hour: of a time with minutes and at the full hour; h and m are their words.
    one_hour: the word for one and both forms at one o'clock, where they differ.  hour_mark: what may follow a time
    and is in its words already.  time_before: words after which 9.30 is a time.
    feminine_hours: the hour of a time is feminine.
    before_noun: endings of a number that change before a noun, the first that fits, as in number_genders.
    ordinal_ends: what is written after the digits of an ordinal, and which ending of its word another then replaces.
    day_before: words after which the ordinal of a day gets `day_ending`.  day_articles: those after which it gets none.
    day_alone: its ending after any other.
    dotted_ordinals: after digits, a full stop makes an ordinal before "any" word or before a "small" letter.
    of: the word between a million and what is counted.  libraries: its code for num2words and for CLDR.
    """

    point: str
    minus: str
    to: str | None
    time: str = "{h} {m}"
    hour: str = "{h}"
    one_hour: tuple[str, str, str] | None = None
    hour_mark: str = ""
    time_before: frozenset[str] = frozenset()
    feminine_hours: bool = False
    before_noun: tuple[tuple[str, str], ...] = ()
    ordinal_ends: tuple[OrdinalEnd, ...] = ()
    day_before: frozenset[str] = frozenset()
    day_ending: str = ""
    day_articles: frozenset[str] = frozenset()
    day_alone: str = ""
    dotted_ordinals: Literal["any", "small"] | None = None
    of: str = ""
    libraries: tuple[str, str] | None = None


_ROMANCE_ENDS: tuple[OrdinalEnd, ...] = (("º", "", ""), ("ª", "o", "a"), (".º", "", ""), (".ª", "o", "a"))
_KL = frozenset({"kl"})

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
            day_before=frozenset({"am", "vom", "zum", "beim", "dem", "den", "im", "ab", "bis", "seit", "des", "zur"}),
            day_ending="n",
            day_articles=frozenset({"der", "die", "das"}),
            day_alone="r",
            dotted_ordinals="any",
        ),
        "fr": NumberLanguage(
            "virgule",
            "moins",
            "à",
            time="{h} heures {m}",
            hour="{h} heures",
            one_hour=("une", "{h} heure {m}", "{h} heure"),
            feminine_hours=True,
            ordinal_ends=(("er", "", ""), ("re", "premier", "première"), ("e", "", ""), ("ème", "", "")),
            of="de",
        ),
        "es": NumberLanguage(
            "coma",
            "menos",
            "a",
            time="{h} y {m}",
            one_hour=("una", "{h} y {m}", "{h}"),
            time_before=frozenset({"las"}),
            feminine_hours=True,
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
            time_before=frozenset({"ore", "alle", "dalle"}),
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
            feminine_hours=True,
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
        "ca": NumberLanguage("coma", "menys", "a", feminine_hours=True, of="de"),
        "cs": NumberLanguage("celá", "minus", "až", before_noun=((" jedna", " jeden"),), dotted_ordinals="small"),
        "da": NumberLanguage(
            "komma", "minus", "til", time_before=_KL, before_noun=((" et", " en"),), dotted_ordinals="small"
        ),
        "fi": NumberLanguage("pilkku", "miinus", None, time_before=frozenset({"klo"}), dotted_ordinals="small"),
        "id": NumberLanguage("koma", "minus", "sampai", time_before=frozenset({"pukul"})),
        "no": NumberLanguage("komma", "minus", "til", time_before=_KL, dotted_ordinals="small", libraries=("no", "nb")),
        "pl": NumberLanguage("przecinek", "minus", "do", time_before=frozenset({"godz"}), dotted_ordinals="small"),
        "ro": NumberLanguage(
            "virgulă",
            "minus",
            "până la",
            one_hour=("una", "{h} {m}", "{h}"),
            feminine_hours=True,
            before_noun=((" unu", " un"),),
            of="de",
        ),
        "ru": NumberLanguage("запятая", "минус", None),
        "sv": NumberLanguage("komma", "minus", "till", time_before=_KL, before_noun=((" ett", " en"),)),
        "uk": NumberLanguage("кома", "мінус", None),
    }
)
ENGLISH = "en"


def known_language(code: str) -> str | None:
    """The key of LANGUAGES for a code such as "de", "DE" or "de-AT"; None for a language that is not read."""
    language = code.replace("_", "-").partition("-")[0].lower()
    language = {"nb": "no", "nn": "no"}.get(language, language)
    return language if language in LANGUAGES else None
