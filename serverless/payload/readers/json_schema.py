"""What a reader takes, as JSON Schema in the form of OpenAPI 3.0: for people and programs that write requests.

A reader may take more than its schema says, such as numbers as texts, and refuse what no schema tells, such as control
characters, or aac where ffmpeg is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from serverless.config.settings import Settings

Schema = dict[str, Any]
SchemaOf = Callable[[Settings], Schema]
Read = TypeVar("Read", bound=Callable[..., Any])

_SCHEMAS: WeakKeyDictionary[Callable[..., Any], SchemaOf] = WeakKeyDictionary()


def takes(schema: SchemaOf) -> Callable[[Read], Read]:
    """Decorate a reader with the schema of what it takes under some settings."""

    def remember(reader: Read) -> Read:
        _SCHEMAS[reader] = schema
        return reader

    return remember


def schema_of(reader: Callable[..., Any], settings: Settings) -> Schema:
    """The schema of a reader; the empty one, which any value fits, for a reader that has none."""
    schema = _SCHEMAS.get(reader)
    return {} if schema is None else schema(settings)
