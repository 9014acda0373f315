"""How numbers are written in each language, and how a reader of it says them; what is ambiguous stays as it is."""

from __future__ import annotations

import random

import pytest

from higgs_core.text.number_languages import LANGUAGES
from higgs_core.text.spoken_numbers import spoken_numbers

READ = {
    "en": {
        ".5 and -.5, $.50": "zero point five and minus zero point five, fifty cents",
        "€3,50, 3,50 €, € 1.234,56": "three euros and fifty cents, three euros and fifty cents, "
        "one thousand two hundred and thirty-four euros and fifty-six"
        " cents",
        "1,5 km, 12,5%, 1,5": "one point five kilometers, twelve point five percent, one,five",
        "1 000 000, 1'000'000, 5 000, 1,23,456": "one million, one million, five thousand, one hundred and "
        "twenty-three thousand four hundred and fifty-six",
        "$5k, $1.5bn, $3M, $1-2 million, $5/month": "five thousand dollars, one point five billion dollars, three"
        " million dollars, one to two million dollars, five "
        "dollars/month",
        "EUR 5, CHF 12": "five euros, twelve Swiss francs",
        "–5 °C": "minus five degrees Celsius",
        "in his 20s, the mid-90s, the ’90s, the 1500s, 1000s": "in his twenties, the mid-nineties, the ’nineties, the "
        "fifteen hundreds, one thousand seconds",
        "1 1/2 cups, 2 3/4": "one and one half cups, two and three quarters",
        "25/12/2024, 03/01/2024": "December twenty-fifth, twenty twenty-four, March first, twenty twenty-four",
        "(02) 1234 5678, 555 123 4567": "(zero two), one two three four, five six seven eight, five "
        "five five, one two three, four five six seven",
        "ISBN 978-3-16-148410-0": "ISBN nine seven eight, three, one six, one four eight four one zero, zero",
        "10-12%, 3-4": "ten to twelve percent, three to four",
        "21st, 12th, COVID-19": "twenty-first, twelfth, COVID-nineteen",
        "<b>5</b>": "<b>five</b>",
    },
    "de": {
        "um 9.30 Uhr, 9.30-17.00 Uhr, um 1 Uhr": "um neun Uhr dreißig, neun Uhr dreißig-siebzehn Uhr, um ein Uhr",
        "im 19. Jahrhundert, der 3. Mann, zum 1. Mal": "im neunzehnten Jahrhundert, der dritte Mann, zum ersten Mal",
        "3. Mai, der 3. Mai, am 3. Mai": "dritter Mai, der dritte Mai, am dritten Mai",
        "2026-11-22": "zweiundzwanzigster November zweitausendsechsundzwanzig",
        "3 Mio. €, 1 Mio. €, 2,5 Mrd. €, 1 Million €": "drei Millionen Euro, eine Million Euro, zwei Komma fünf "
        "Milliarden Euro, eine Million Euro",
        "$1,234.56, 1,000,000, 1 000 000": "eintausendzweihundertvierunddreißig Dollar und "
        "sechsundfünfzig Cent, eine Million, eine Million",
        "1 h, 21 h, 0,1 km, 1 km": "eine Stunde, einundzwanzig Stunden, null Komma eins Kilometer, ein Kilometer",
        "(030) 123456, 030/123456, +49 30 1234567": "(null drei null), eins zwei drei vier fünf sechs, null drei "
        "null, eins zwei drei vier fünf sechs, vier neun, drei null, "
        "eins zwei drei vier fünf sechs sieben",
        "10€/Monat": "zehn Euro/Monat",
    },
    "fr": {
        "1 h, 21 h, 1 kg": "une heure, vingt et une heures, un kilogramme",
        "à 21h30, 1h15": "à vingt et une heures trente, une heure quinze",
        "1 000,50 €, €1.234,56": "mille euros et cinquante centimes, mille deux cent "
        "trente-quatre euros et cinquante-six centimes",
    },
    "es": {
        "1 h, 2 h, 21 h, 0,1 km": "una hora, dos horas, veintiuna horas, cero coma uno kilómetros",
        "a las 9.30, 21:30": "a las nueve y treinta, veintiuna y treinta",
        "2 mil €, 3 millones €": "dos mil euros, tres millones de euros",
    },
    "it": {
        "1 h, 1 km, 21 h": "una ora, un chilometro, ventuno ore",
        "alle 9.30": "alle nove e trenta",
    },
    "pt": {
        "1 h, 2 h, 1 km": "uma hora, duas horas, um quilômetro",
        "2:00, 21:30": "duas horas, vinte e uma e trinta",
    },
    "nl": {
        "1 h, 9.30 uur, om 9 uur": "één uur, negen uur dertig, om negen uur",
    },
    "ca": {
        "1 h, 2 h, 1 km": "una hora, dues hores, un quilòmetre",
    },
    "cs": {
        "1 km, 1 h, 2 h, 1 %, 2 min": "jeden kilometr, jedna hodina, dvě hodiny, jedno procento, dvě minuty",
    },
    "da": {
        "1 km, 1 min, 1 kg": "en kilometer, et minut, et kilogram",
        "kl. 9.30, 3. maj": "kl. ni tredive, tredje maj",
    },
    "fi": {
        "klo 9.30, 2 km": "klo yhdeksän kolmekymmentä, kaksi kilometriä",
    },
    "id": {
        "pukul 9.30, 1 km": "pukul sembilan tiga puluh, satu kilometer",
    },
    "no": {
        "1 km, 1 min, 1998, 2024": "en kilometer, ett minutt, nitten hundre nittiåtte, to tusen og tjuefire",
    },
    "pl": {
        "1 h, 2 h, 1 km, 2 min": "jedna godzina, dwie godziny, jeden kilometr, dwie minuty",
        "godz. 9.30": "godz. dziewięć trzydzieści",
    },
    "ro": {
        "1 h, 2 h, 1 km, 2 min, 1 kg": "o oră, două ore, un kilometru, două minute, un kilogram",
        "1.234,5": "o mie două sute treizeci și patru virgulă cinci",
        "1:15, 2:00": "una cincisprezece, două",
    },
    "ru": {
        "1 s, 2 min, 1 km, 1 h": "одна секунда, две минуты, один километр, один час",
        "1 000": "одна тысяча",
    },
    "sv": {
        "1 km, 1 h, 1 kg": "en kilometer, en timme, ett kilogram",
        "1998, 1905, 2024, 1 000": "nittonhundranittioåtta, nittonhundrafem, tvåtusentjugofyra, ettusen",
    },
    "uk": {
        "1 h, 2 min, 1 km": "одна година, дві хвилини, один кілометр",
    },
}
STAYS = [
    "5k and 1.5x",
    "9/11, 13/14, 7/10 and 24/7",
    "No. 5, no. 12",
    "192.168.100.200, 10.0.0.1:8080",
    "1,2,3",
    ".5.1",
    "24.com, anna.5@example.com",
    "10^6",
    '<break time="500ms"/> <h1>Title</h1>',
    "1e-5",
    "10:15:30",
    "1000s of people",
    "$10K-20K",
]
STAYS_THERE = {
    "de": ["2. Weltkrieg", "1. FC Köln", "am 3.5. um", "1 1/2", "die 1990er"],
    "cs": ["v 19. století"],
    "da": ["det 19. århundrede"],
    "fr": ["1.000", "3/4"],
    "no": ["5 lb"],
    "pl": ["w 19. wieku", "1.234"],
    "ru": ["1.000"],
}


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, cases in READ.items() for text in cases])
def test_what_can_be_read_in_one_way_only_is_read(language: str, text: str) -> None:
    assert spoken_numbers(text, language) == READ[language][text]


@pytest.mark.parametrize("text", STAYS)
@pytest.mark.parametrize("language", ["en", "de", "fr", "pl"])
def test_what_is_ambiguous_or_no_number_stays(language: str, text: str) -> None:
    assert spoken_numbers(text, language) == text


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, texts in STAYS_THERE.items() for text in texts])
def test_what_is_ambiguous_in_one_language_stays_there(language: str, text: str) -> None:
    assert spoken_numbers(text, language) == text


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_and_order_of_a_random_text_stay(language: str) -> None:
    """Words without digits, punctuation aside, are still there in their order, whatever stands between them."""
    draw = random.Random(language)
    pieces = [
        *"0123456789.,:;-–/+%$€£()[]'’<>#^@",
        "12",
        "1,000",
        "1.000",
        "1 000",
        "20",
        "1990s",
        "s",
        "km",
        "°C",
        "h",
    ]
    pieces += [" ", " ", " ", "5 ", " 3.", "12:30", "1/2", "No. ", "EUR ", " am ", " Uhr", "st", "º"]
    for _ in range(60):
        parts = ["".join(draw.choices(pieces, k=draw.randrange(6))) for _ in range(8)]
        marks = [f"qx{chr(97 + at)}z" for at in range(len(parts))]
        text = " ".join(f"{mark} {part}" for mark, part in zip(marks, parts, strict=True))
        spoken = spoken_numbers(text, language)
        assert [word for word in spoken.replace(".", " ").split() if word in marks] == marks, text
        assert len(spoken) <= 60 * len(text)
