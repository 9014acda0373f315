"""Numbers are said as a reader of the language says them, and nothing else in the text changes."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgs_core.text.markup import INSTRUCTION_END, INSTRUCTION_START
from higgs_core.text.number_languages import LANGUAGES, known_language
from higgs_core.text.number_units import UNITS
from higgs_core.text.number_words import number_words
from higgs_core.text.spoken_numbers import spoken_numbers

ENGLISH = {
    "3 apples and 1,234 pears": "three apples and one thousand two hundred and thirty-four pears",
    "0.5, 3.14 and -2.50": "zero point five, three point one four and minus two point five zero",
    "It ends with 5. And 6.": "It ends with five. And six.",
    "1st, 2nd, 23rd and 112th": "first, second, twenty-third and one hundred and twelfth",
    "5-10 people, 5–10 %": "five to ten people, five to ten percent",
    "$5.20, €3.50, £1, US$7": "five dollars and twenty cents, three euros and fifty cents, one pound, seven dollars",
    "$0.99, $0.01, $0": "ninety-nine cents, one cent, zero dollars",
    "$1.5 million, $5-10, -$3, 5 EUR": "one point five million dollars, five to ten dollars, minus three dollars, "
    "five euros",
    "5 km, 20 °C, 3kg, 60 mph, 100 km/h": "five kilometers, twenty degrees Celsius, three kilograms, "
    "sixty miles per hour, one hundred kilometers per hour",
    "-5 °C and 7%": "minus five degrees Celsius and seven percent",
    "2026-11-22": "November twenty-second, twenty twenty-six",
    "11/22/2026": "November twenty-second, twenty twenty-six",
    "22.11.2026": "November twenty-second, twenty twenty-six",
    "November 22, 2026": "November twenty-second, twenty twenty-six",
    "2 May": "second May",
    "14:30, 9:00, 14:00, 0:05": "fourteen thirty, nine o'clock, fourteen hundred, zero oh five",
    "2:05 pm, 2:05 p.m. or 5pm.": "two oh five p.m., two oh five p.m. or five p.m.",
    "in 1066, 1998 and 2026": "in ten sixty-six, nineteen ninety-eight and twenty twenty-six",
    "1990-1995, the 1990s, the 90s, 90s": "nineteen ninety to nineteen ninety-five, the nineteen nineties, "
    "the nineties, ninety seconds",
    "1/2 and 3/4 and 2/3": "one half and three quarters and two thirds",
    "555-123-4567": "five five five, one two three, four five six seven",
    "(555) 123-4567": "(five five five), one two three, four five six seven",
    "+44 20 7946 0958": "four four, two zero, seven nine four six, zero nine five eight",
    "007 and 12345678901": "zero zero seven and one two three four five six seven eight nine zero one",
    "GPT-4 and a 5-year-old": "GPT-four and a five-year-old",
}
OTHERS = {
    "de": {
        "1.234,56 und 1.000.000": "eintausendzweihundertvierunddreißig Komma fünf sechs und eine Million",
        "3,50 €, -3,50 €, 2,5 Millionen €": "drei Euro und fünfzig Cent, minus drei Euro und fünfzig Cent, "
        "zwei Komma fünf Millionen Euro",
        "am 22.11.2026": "am zweiundzwanzigsten November zweitausendsechsundzwanzig",
        "der 3. Oktober": "der dritte Oktober",
        "14:30 Uhr, 9:00": "vierzehn Uhr dreißig, neun Uhr",
        "1 km, 20 °C, 5-10 %": "ein Kilometer, zwanzig Grad Celsius, fünf bis zehn Prozent",
        "im Jahr 1998": "im Jahr neunzehnhundertachtundneunzig",
        "-2,5": "minus zwei Komma fünf",
        "Kapitel 3.5": "Kapitel drei Komma fünf",
    },
    "fr": {
        "1 234,5": "mille deux cent trente-quatre virgule cinq",
        "3,50 € et 2 millions €": "trois euros et cinquante centimes et deux millions d'euros",
        "22/11/2026": "vingt-deux novembre deux mille vingt-six",
        "le 1er mai, la 1re, le 2e": "le premier mai, la première, le deuxième",
        "14h30, 1:15": "quatorze heures trente, une heure quinze",
        "5-10 km à 20 °C": "cinq à dix kilomètres à vingt degrés Celsius",
        "-5": "moins cinq",
        "06 12 34 56 78": "zéro six, un deux, trois quatre, cinq six, sept huit",
    },
    "es": {
        "1.234,5": "mil doscientos treinta y cuatro coma cinco",
        "3,50 €": "tres euros con cincuenta céntimos",
        "22/11/2026": "veintidós de noviembre de dos mil veintiséis",
        "21 km, 5 %": "veintiún kilómetros, cinco por ciento",
        "1.º y 2ª": "primero y segunda",
        "14:30": "catorce y treinta",
        "-5 a 5-10": "menos cinco a cinco a diez",
    },
    "it": {"3,14 e -5": "tre virgola uno quattro e meno cinque", "1º maggio, 2ª": "primo maggio, seconda"},
    "pl": {"2 km, 5 km": "dwa kilometry, pięć kilometrów", "-3,5": "minus trzy przecinek pięć"},
    "pt": {"22/11/2026, 3,5": "vinte e dois de novembro de dois mil e vinte e seis, três vírgula cinco"},
}
STAYS = [
    "[SPEAKER0] Hello. [SPEAKER1] Yes. [Agent 47] No. [pause 1.5s]",
    "<SE>[Laughter]</SE> <SE_s>[Music 2]</SE_s>",
    f"{INSTRUCTION_START}speak 3 times{INSTRUCTION_END}",
    "Louis XIV, Part IV",
    "v2.1, 2.1.3, 192.168.0.1, Python3.11, B2B, mp3, A4, H2O, 4K",
    "https://example.com/2026/11/22?page=3 www.example.com:8080 anna.1990@example.com file_2.txt #5",
    "16:9 and 24/7",
    "٣ and ３ and ½",
    "9" * 64,
    "no number",
    "",
]
_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SMALL = {word: value for value, word in enumerate(_ONES)} | {word: 10 * tens for tens, word in enumerate(_TENS, 2)}
LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}


def value_of(words: str) -> int:
    """The number that English words say: the inverse of what is tested, written without its library."""
    total = part = 0
    for word in words.replace("-", " ").replace(" and ", " ").split():
        if word == "hundred":
            part *= 100
        elif word in LARGE:
            total, part = total + part * LARGE[word], 0
        else:
            part += SMALL[word]
    return total + part


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert spoken_numbers(text, "en") == ENGLISH[text]


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, cases in OTHERS.items() for text in cases])
def test_other_languages(language: str, text: str) -> None:
    assert spoken_numbers(text, language) == OTHERS[language][text]


@pytest.mark.parametrize("text", STAYS)
@pytest.mark.parametrize("language", ["en", "de", "fr", "es"])
def test_what_is_no_number_stays(text: str, language: str) -> None:
    assert spoken_numbers(text, language) == text


@settings(max_examples=150)
@given(st.integers(0, 999_999_999))
def test_no_whole_number_loses_its_value(number: int) -> None:
    for written in (f"{number:,}", str(number)):
        if len(written) != 4:  # four digits may be a year
            assert value_of(spoken_numbers(f"({written})", "en")[1:-1]) == number


@settings(max_examples=50)
@given(st.text("0123456789", min_size=10, max_size=40), st.sampled_from(sorted(LANGUAGES)))
def test_a_long_run_keeps_each_of_its_digits(run: str, language: str) -> None:
    names = {str(number_words(language).cardinal(digit)): str(digit) for digit in range(10)}
    spoken = spoken_numbers(run, language)
    for name in sorted(names, key=len, reverse=True):
        spoken = spoken.replace(name, names[name])
    assert spoken.replace(" ", "") == run


@pytest.mark.parametrize("number", [1998, 2005, 2026, 1066, 1900, 2000])
def test_a_year_keeps_its_value(number: int) -> None:
    century, _, rest = spoken_numbers(f"in {number}", "en").removeprefix("in ").partition(" ")
    read = value_of(f"{century} {rest}")
    assert number in (read, value_of(century) * 100 + (value_of(rest) if rest and rest != "hundred" else 0))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_reads_every_form_or_leaves_it(language: str) -> None:
    """No form raises, numbers are read, and every unit has a name."""
    text = "5; 1; 21; 100; 2,5; 2.5; -3; 14:30; 9:00; 2026-11-22; 5 km; 7 %; 3 €; $2; £4; ¥5; 5-10; 3.; 1/2; 12 CHF"
    spoken = spoken_numbers(text, language)
    assert not any(character.isdigit() for character in spoken.replace("1/2", "").replace("2026-11-22", ""))
    words = number_words(language)
    for unit in UNITS.values():
        named = words.unit("5", "", "five", unit)
        assert named != "five", unit
        assert unit not in (named or ""), "CLDR lacks its name"


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("pt_BR", "pt"),
        ("nb", "no"),
        ("xx", None),
        ("", None),
        ("deu", None),
    ],
)
def test_codes_of_languages(code: str, language: str | None) -> None:
    assert known_language(code) == language


@settings(max_examples=100)
@given(st.text("0123456789.,:-/+$€% apmkst°[]<>", max_size=60), st.sampled_from(sorted(LANGUAGES)))
def test_any_text_is_read_without_an_error(text: str, language: str) -> None:
    spoken_numbers(text, language)


@pytest.mark.parametrize(
    "unit",
    ["1 ", "1", "1,", "1.", "1-", "1/2/", "$1", "12:30 ", "[", "5 km ", "+1 ", "a1", "0 ", "2026-11-22", "-1"],
)
def test_the_forms_that_are_tried_grow_as_the_text_does(unit: str) -> None:
    """Counted in calls, as time is not asserted."""
    counts = []
    for length in (1_000, 2_000):
        calls = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "c_call"

        text = (unit * length)[:length]
        spoken_numbers(text, "en")  # the libraries are loaded
        sys.setprofile(count)
        try:
            spoken_numbers(text, "en")
        finally:
            sys.setprofile(None)
        counts.append(calls)
    assert counts[1] <= 2.2 * counts[0] + 200


def test_many_threads_read_the_same() -> None:
    """num2words' readers keep what they read in themselves."""
    texts = [f"{number},25 km und {number * 7} €" for number in range(40)]
    alone = [spoken_numbers(text, "de") for text in texts]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda text: spoken_numbers(text, "de"), texts)) == alone
