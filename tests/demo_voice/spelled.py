"""A lexicon without a synthesiser: every letter is one sound."""

from scripts.demo_voice.inventory import Sound
from scripts.demo_voice.lexicon import Word

_VOWELS = {"a": "ae", "e": "eh", "i": "ih", "o": "ao", "u": "ah", "y": "iy"}


class SpelledLexicon:
    def word(self, written: str, spoken: str | None = None) -> Word:
        letters = [at for at, letter in enumerate(written) if letter.isalnum()]
        sounds = [
            Sound(_VOWELS.get(written[at].lower(), "n"), stressed=number == 0, starts_word=number == 0)
            for number, at in enumerate(letters)
        ]
        return Word(tuple(sounds), tuple(letters))
