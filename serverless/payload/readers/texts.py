"""Readers of texts: scripts, names, URLs and base64, and of lists and objects that hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from higgs_core.params import MAX_STOP_STRINGS
from higgs_core.text.number_languages import ENGLISH, LANGUAGES, known_language
from serverless.config.settings import Settings
from serverless.payload.readers.json_schema import Schema, schema_of, takes
from serverless.payload.readers.values import JsonObject, Reader, Refused, is_blank, is_blank_entry, switch

T = TypeVar("T")

MAX_STOP_STRING_CHARACTERS = 256
MAX_TAG_CHARACTERS = 64
_STOP_STRING: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_STRING_CHARACTERS}
SHORTEST_TURN = len("[SPEAKER0] x\n")  # of a dialogue as a script
_LONGEST_LANGUAGE = 20
_LONGEST_WRITTEN_TAG = 1000  # with its brackets and the white space around them
_CANONICAL_TAG = re.compile(r"SPEAKER\d{1,4}", re.ASCII)


@takes(lambda settings: {"type": "string", "maxLength": settings.max_script_characters})
def verbatim(value: object, settings: Settings) -> str:
    """A text, exactly as sent."""
    limit = settings.max_script_characters
    if not isinstance(value, str) or len(value) > limit:
        raise Refused(value, f"a text of at most {limit} characters")
    if not _is_unicode(value):
        raise Refused(value, "a text without halves of surrogate pairs")
    return value


@takes(lambda settings: schema_of(verbatim, settings))
def text(value: object, settings: Settings) -> str:
    """A text, without the white space around it."""
    return verbatim(value, settings).strip()


def line(limit: int) -> Reader[str]:
    """A short text on one line, such as a name or an address."""

    @takes(lambda settings: {"type": "string", "maxLength": limit})
    def read(value: object, settings: Settings) -> str:
        if not isinstance(value, str) or len(value) > limit or not value.strip().isprintable():
            raise Refused(value, f"a text of at most {limit} characters on one line")
        return value.strip()

    return read


_voice_line = line(128)


@takes(
    lambda settings: {
        "oneOf": [
            schema_of(_voice_line, settings),
            {"type": "object", "required": ["id"], "properties": {"id": schema_of(_voice_line, settings)}},
        ]
    }
)
def voice_name(value: object, settings: Settings) -> str:
    """A voice's name; OpenAI's clients send one of their own as {"id": name}."""
    return _voice_line(value.get("id") if isinstance(value, Mapping) else value, settings)


@takes(lambda settings: {"type": "string", "minLength": 1, "maxLength": MAX_TAG_CHARACTERS})
def speaker_tag(value: object, settings: Settings) -> str:
    """A speaker's name without brackets; [speaker0] is SPEAKER0."""
    allowed = f"a name such as SPEAKER0, of at most {MAX_TAG_CHARACTERS} characters and without brackets inside"
    name = value.strip() if isinstance(value, str) and len(value) <= _LONGEST_WRITTEN_TAG else ""
    name = name[1:-1].strip() if name.startswith("[") and name.endswith("]") else name
    if not 0 < len(name) <= MAX_TAG_CHARACTERS or not name.isprintable() or "[" in name or "]" in name:
        raise Refused(value, allowed)
    return name.upper() if is_canonical_tag(name.upper()) else name


def is_canonical_tag(name: str) -> bool:
    """Whether a name is a tag that the model was trained on: SPEAKER0, SPEAKER1, …"""
    return _CANONICAL_TAG.fullmatch(name) is not None


@takes(lambda settings: {"type": "string", "format": "byte", "maxLength": _longest_base64(settings)})
def encoded_audio(value: object, settings: Settings) -> str:
    """Base64, no longer than that of the largest allowed clip. It is decoded and checked with the other clips."""
    limit = _longest_base64(settings)
    if not isinstance(value, str) or len(value) > limit:
        raise Refused(value, f"base64 of a clip of at most {settings.max_reference_bytes / 1e6:g} MB")
    if not value.isascii():
        raise Refused(value, "base64", sentence="Invalid base64 audio payload.")
    return value.strip()


def _one_or_list(one: Schema, several: Schema) -> Schema:
    return {"anyOf": [one, {"type": "array", **several}]}


def _longest_base64(settings: Settings) -> int:
    return settings.max_reference_bytes * 7 // 5 + 1024  # 4/3, line breaks, and a data: prefix


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@takes(lambda settings: {"oneOf": [schema_of(switch, settings), {"type": "string", "enum": list(LANGUAGES)}]})
def number_language(value: object, settings: Settings) -> str | None:
    """The language whose words are said for numbers: true is English, false is none, "de-AT" is German."""
    if isinstance(value, str) and len(value) <= _LONGEST_LANGUAGE and (known := known_language(value.strip())):
        return known
    try:
        return ENGLISH if switch(value, settings) else None
    except Refused:
        raise Refused(value, f"true (English), false, or a language: {', '.join(LANGUAGES)}") from None


# Lists and objects.


def anything(value: object, settings: Settings) -> Any:
    """Any value. Not validated here; the caller validates."""
    return value


@takes(lambda settings: {"type": "object", "maxProperties": settings.max_references})
def speaker_entries(value: object, settings: Settings) -> JsonObject:
    """An object with an entry for each speaker, at most max_references; the entries are validated by the caller."""
    if not isinstance(value, Mapping) or len(value) > settings.max_references:
        raise Refused(value, f"an object of at most {settings.max_references} speakers")
    return value


@takes(lambda settings: {"type": "array", "maxItems": _most_turns(settings)})
def turn_entries(value: object, settings: Settings) -> tuple[JsonObject, ...]:
    """A list of objects, no more of them than a script of the largest allowed length has turns."""
    most = _most_turns(settings)
    if not isinstance(value, list) or len(value) > most:
        raise Refused(value, f"a list of at most {most} objects")
    return _objects(value)


def _most_turns(settings: Settings) -> int:
    return max(1, (settings.max_script_characters + 1) // SHORTEST_TURN)


@takes(lambda settings: {"type": "array", "maxItems": settings.max_references})
def one_or_more_objects(value: object, settings: Settings) -> tuple[JsonObject, ...]:
    """A list of at most max_references objects, or one object. A blank entry is an empty object."""
    entries = [value] if isinstance(value, Mapping) else value
    if not isinstance(entries, list) or len(entries) > settings.max_references:
        raise Refused(value, f"an object or a list of at most {settings.max_references} objects")
    return _objects([{} if is_blank_entry(entry) else entry for entry in entries])


def _objects(entries: Sequence[object]) -> tuple[JsonObject, ...]:
    found: list[JsonObject] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise Refused(entry, "an object", at=f"[{index}]")
        found.append(entry)
    return tuple(found)


def one_or_more(reader: Reader[T]) -> Reader[tuple[T | None, ...]]:
    """A list of at most max_references texts, or a single text. A blank entry is None, so that positions are kept."""

    @takes(
        lambda settings: _one_or_list(
            schema_of(reader, settings),
            {"items": {**schema_of(reader, settings), "nullable": True}, "maxItems": settings.max_references},
        )
    )
    def read(value: object, settings: Settings) -> tuple[T | None, ...]:
        entries = value if isinstance(value, list) else [value]
        if isinstance(value, Mapping) or len(entries) > settings.max_references:
            raise Refused(value, f"a text or a list of at most {settings.max_references} texts")
        found: list[T | None] = []
        for index, entry in enumerate(entries):
            try:
                found.append(None if is_blank(entry) else reader(entry, settings))
            except Refused as refused:
                at = f"[{index}]" if isinstance(value, list) else ""
                raise Refused(entry, refused.allowed, at=at, sentence=refused.sentence) from None
        return tuple(found)

    return read


@takes(lambda settings: _one_or_list(_STOP_STRING, {"items": _STOP_STRING, "maxItems": MAX_STOP_STRINGS}))
def stop_strings(value: object, settings: Settings) -> tuple[str, ...]:
    """One stop string or a list of them; a stop string may consist of white space."""
    entries = [value] if isinstance(value, str) else value
    allowed = f"up to {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_STRING_CHARACTERS} characters"
    if isinstance(entries, list) and len(entries) > MAX_STOP_STRINGS:
        raise Refused(value, allowed)
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise Refused(value, "", sentence="stop_strings must be a string or a sequence of strings.")
    if not all(0 < len(entry) <= MAX_STOP_STRING_CHARACTERS and _is_unicode(entry) for entry in entries):
        raise Refused(value, allowed)
    return tuple(entries)
