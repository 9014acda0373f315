"""Readers of numbers, switches and choices, and what a reader is.

A reader takes (value, settings) and returns the value in its type, or raises Refused with what is allowed, from which
its field makes the error message. A bound given as a string is the name of a setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from higgs_core.audio import FORMATS, is_available
from higgs_core.errors import RequestError
from serverless.config.settings import Settings
from serverless.payload.readers.json_schema import Schema, schema_of, takes

T = TypeVar("T")
Reader = Callable[[object, Settings], T]
JsonObject = Mapping[str, object]

# What is longer than these is never looked through for blanks: its field's reader refuses it by its length.
_LONGEST_BLANK_TEXT = 1_000_000
_LONGEST_BLANK_LIST = 100
_LONGEST_NAME = 100  # of a choice or a switch, with the white space around it

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_ECHOED = re.compile(r"[\w .,:+\-]{0,24}")  # short words and numbers
_SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Refused(Exception):
    """A value that its field does not allow.

    at: the position inside the field ("[2]"). sentence: the error message, where the usual one does not fit.
    """

    def __init__(self, value: object, allowed: str, *, at: str = "", sentence: str | None = None) -> None:
        super().__init__(allowed)
        self.value = value
        self.allowed = allowed
        self.at = at
        self.sentence = sentence

    def as_error(self, name: str) -> RequestError:
        """The error for the client. name: the field's full name in the payload."""
        where = f"{name}{self.at}"
        return RequestError(self.sentence or f"{where} is {shown(self.value)}; allowed is {self.allowed}.", field=where)


def shown(value: object) -> str:
    """A value as an error message may repeat it: short, and no text that could be a URL, a path or a script."""
    if isinstance(value, str):
        return repr(value) if _ECHOED.fullmatch(value) else f"a text of {len(value)} characters"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else "a number of more than 64 bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else "of another type"


def is_null(value: object) -> bool:
    return value is None


def is_blank(value: object) -> bool:
    """Whether a value counts as not given: null, or a text of white space."""
    if isinstance(value, str):
        return not value or (len(value) <= _LONGEST_BLANK_TEXT and value.isspace())
    return value is None


def is_blank_list(value: object) -> bool:
    """The same for a text or a list of texts: each of them is blank."""
    if isinstance(value, list):
        return len(value) <= _LONGEST_BLANK_LIST and all(map(is_blank, value))
    return is_blank(value)


def is_blank_entry(value: object) -> bool:
    """The same for an object: each of its values is blank."""
    if isinstance(value, Mapping):
        return len(value) <= _LONGEST_BLANK_LIST and all(map(is_blank, value.values()))
    return is_blank(value)


def are_blank_entries(value: object) -> bool:
    """The same for an object or a list of objects: each of them is blank."""
    if isinstance(value, list):
        return len(value) <= _LONGEST_BLANK_LIST and all(map(is_blank_entry, value))
    return is_blank_entry(value)


def is_empty(value: object) -> bool:
    """Whether a value is null, "", [] or {}: for fields where white space and blank entries are values."""
    return value in (None, "", [], {})


# Numbers and switches.


def number(low: float, high: float | str, *, above: bool = False) -> Reader[float]:
    """A finite number, also as a text. above: `low` itself is not allowed."""

    def schema(settings: Settings) -> Schema:
        top = getattr(settings, high) if isinstance(high, str) else high
        bounds: Schema = {"type": "number", "minimum": low, "maximum": top}
        return bounds | ({"exclusiveMinimum": True} if above else {})

    @takes(schema)
    def read(value: object, settings: Settings) -> float:
        top = getattr(settings, high) if isinstance(high, str) else high
        found = _as_number(value)
        if found is None or not (low < found if above else low <= found) or found > top:
            raise Refused(value, f"above {low:g} and at most {top:g}" if above else f"{low:g} to {top:g}")
        return float(found)

    return read


def integer(low: int | None, high: int | str) -> Reader[int]:
    """A whole number, also as a text or as a float without a fraction. low None: no lower bound."""

    def schema(settings: Settings) -> Schema:
        top = getattr(settings, high) if isinstance(high, str) else high
        return {"type": "integer"} | ({} if low is None else {"minimum": low}) | {"maximum": top}

    @takes(schema)
    def read(value: object, settings: Settings) -> int:
        top = getattr(settings, high) if isinstance(high, str) else high
        found = _as_number(value)
        if found is None or found != math.floor(found) or found > top or (low is not None and found < low):
            raise Refused(value, f"a whole number, {f'at most {top}' if low is None else f'{low} to {top}'}")
        return int(found)

    return read


def nullable(reader: Reader[T], meaning: str = "off", *, also: tuple[int, ...] = ()) -> Reader[T | None]:
    """Null or a blank text is None. meaning: what None does, for error messages. also: numbers that are None too."""
    numbers = f"{', '.join(map(str, also))} or " if also else ""

    @takes(lambda settings: {**schema_of(reader, settings), "nullable": True})
    def read(value: object, settings: Settings) -> T | None:
        if is_blank(value) or (also and _as_number(value) in also):
            return None
        try:
            return reader(value, settings)
        except Refused as refused:
            raise Refused(refused.value, f"{refused.allowed}, or {numbers}null for {meaning}") from None

    return read


@takes(lambda settings: {"type": "boolean"})
def switch(value: object, settings: Settings) -> bool:
    """true or false, also as 1, 0, "yes" or "no"."""
    if isinstance(value, bool):
        return value
    found = _SWITCHES.get(_short_name(value))
    if found is None and isinstance(value, int) and value in (0, 1):
        found = bool(value)
    if found is None:
        raise Refused(value, "true or false")
    return found


def choice(options: Mapping[str, T]) -> Reader[T]:
    """One of a few names, in any case."""

    @takes(lambda settings: {"type": "string", "enum": list(options)})
    def read(value: object, settings: Settings) -> T:
        name = _short_name(value)
        if name not in options:
            *others, last = options
            raise Refused(value, f"{', '.join(others)} or {last}")
        return options[name]

    return read


@takes(lambda settings: {"type": "string", "enum": list(FORMATS)})
def audio_format(value: object, settings: Settings) -> str:
    """A format that this machine can encode: aac only where ffmpeg is installed."""
    return choice({name: name for name in FORMATS if is_available(name)})(value, settings)


def _short_name(value: object) -> str:
    """A text as a choice compares it; "" for anything else."""
    return value.strip().lower() if isinstance(value, str) and len(value) <= _LONGEST_NAME else ""


def _as_number(value: object) -> int | float | None:
    if isinstance(value, str) and len(value) <= 100 and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None
