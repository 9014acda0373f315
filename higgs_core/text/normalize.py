"""Text normalisation as Boson AI's own scripts do it before the model reads a text.

Plain replacements only, so the time is linear in the text whatever it holds. Numbers, percent signs and currency stay
as they are written; the model reads many of them wrongly, most of all in Chinese, and Boson AI advises to spell them
out.
"""

from __future__ import annotations

_ASCII_PUNCTUATION = str.maketrans(
    {
        "，": ", ",
        "。": ".",
        "：": ":",
        "；": ";",
        "？": "?",
        "！": "!",
        "（": "(",
        "）": ")",
        "【": "[",
        "】": "]",
        "《": "<",
        "》": ">",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "、": ",",
        "—": "-",
        "…": "...",
        "·": ".",
        "「": '"',
        "」": '"',
        "『": '"',
        "』": '"',
    }
)
_NO_PARENTHESES = str.maketrans("()", "  ")
_UNITS = {"°F": " degrees Fahrenheit", "°C": " degrees Celsius"}
EVENT_TAGS = {
    "[laugh]": "<SE>[Laughter]</SE>",
    "[humming start]": "<SE_s>[Humming]</SE_s>",
    "[humming end]": "<SE_e>[Humming]</SE_e>",
    "[music start]": "<SE_s>[Music]</SE_s>",
    "[music end]": "<SE_e>[Music]</SE_e>",
    "[music]": "<SE>[Music]</SE>",
    "[sing start]": "<SE_s>[Singing]</SE_s>",
    "[sing end]": "<SE_e>[Singing]</SE_e>",
    "[applause]": "<SE>[Applause]</SE>",
    "[cheering]": "<SE>[Cheering]</SE>",
    "[cough]": "<SE>[Cough]</SE>",
}
"""What a user may write for a sound, and the model's markup for it."""

ENDINGS = (".", "!", "?", ",", ";", '"', "'", "</SE_e>", "</SE>")
"""A text that ends in none of these gets a full stop."""


def normalize(text: str) -> str:
    """The text as the model expects it; "" when nothing but brackets and space was given."""
    text = text.translate(_ASCII_PUNCTUATION).translate(_NO_PARENTHESES)
    for written, spoken in (_UNITS | EVENT_TAGS).items():
        text = text.replace(written, spoken)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    text = "\n".join(line for line in lines if line)
    if text and not text.endswith(ENDINGS):
        text += "."
    return text
