"""Base classes to declare the fields of a JSON object: names, reader and default of each.

A subclass of `Table` declares an object, its instance reads one. All fields are read when it is built, so that a wrong
value is an error even if nothing uses it; after that they are attributes of the right type.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, overload

from higgs_core.errors import RequestError
from higgs_core.speech.voices import VoiceLibrary
from serverless.config.settings import Settings
from serverless.payload.readers.values import JsonObject, Reader, Refused, is_blank

T = TypeVar("T")

MAX_WARNINGS = 100
REQUIRED: Any = object()  # the default of a field that has none
_MAX_NAME_CHARACTERS = 64


class ParseContext:
    """What the parsing of one request needs everywhere: the settings, the voice library, and the warnings so far."""

    def __init__(self, settings: Settings, voices: VoiceLibrary) -> None:
        self.settings = settings
        self.voices = voices
        self._warnings: list[str] = []
        self._unnamed = 0

    @property
    def full(self) -> bool:
        """Whether further warnings are only counted, which keeps a request with thousands of unknown fields cheap."""
        return len(self._warnings) >= MAX_WARNINGS

    def warn(self, sentence: str) -> None:
        if self.full:
            self.count_ignored(1)
        else:
            self._warnings.append(sentence)

    def warn_ignored(self, name: str, because: str) -> None:
        self.warn(f"{name} was ignored because {because} is given.")

    def count_ignored(self, more: int) -> None:
        """Count `more` things that had no effect, without a warning for each."""
        self._unnamed += more

    @property
    def warnings(self) -> tuple[str, ...]:
        rest = (f"{self._unnamed} more parts of the request had no effect.",) if self._unnamed else ()
        return (*self._warnings, *rest)


class Field(Generic[T]):
    """One field of a table: the attribute's own name and `aliases`, of which the first that is not blank is read.

    default: the value when none is given. setting: the name of the setting that has it.
    blank: which values count as not given.
    """

    def __init__(
        self,
        reader: Reader[T],
        *aliases: str,
        default: T = REQUIRED,
        setting: str | None = None,
        blank: Callable[[object], bool] = is_blank,
    ) -> None:
        self.names: tuple[str, ...] = aliases
        self.reader = reader
        self.default = default
        self.setting = setting
        self.blank = blank

    def __set_name__(self, owner: type[Table], name: str) -> None:
        self.names = (name, *self.names)

    @property
    def name(self) -> str:
        return self.names[0]

    @overload
    def __get__(self, table: None, owner: type[Table]) -> Field[T]: ...

    @overload
    def __get__(self, table: Table, owner: type[Table]) -> T: ...

    def __get__(self, table: Table | None, owner: type[Table]) -> Field[T] | T:
        return self if table is None else table.values[self.name]

    def aliases_in(self, body: JsonObject) -> list[str]:
        """The names under which `body` gives the field something, in order of precedence."""
        return [name for name in self.names if name in body and not self.blank(body[name])]

    def when_absent(self, path: str, settings: Settings) -> Any:
        """The value of a field that was not given. Raises RequestError when it has to be."""
        if self.setting is not None:
            return getattr(settings, self.setting)
        if self.default is REQUIRED:
            raise RequestError(f"{path} is missing.", field=path)
        return self.default


class Table:
    """One JSON object read by its fields. `given` maps each field that was sent to the alias that it came under.

    at: the object's name in the payload ("references[0]"), "" for the request itself.
    Raises RequestError naming the first field that is missing, of the wrong type or out of range.
    """

    fields: ClassVar[tuple[Field[Any], ...]] = ()
    known: ClassVar[frozenset[str]] = frozenset()  # every name of every field

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.fields += tuple(value for value in vars(cls).values() if isinstance(value, Field))
        cls.known = frozenset(name for field in cls.fields for name in field.names)

    def __init__(self, body: JsonObject, context: ParseContext, at: str = "") -> None:
        self.at = at
        self.given: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        for field in self.fields:
            self.values[field.name] = self._read(field, body, context)
        self._name_unknown(body, context)

    def path_to(self, name: str) -> str:
        """The full name of one of this object's keys."""
        return f"{self.at}.{name}" if self.at else name

    def path_given(self, field: str) -> str:
        """The full name under which the client gave a field."""
        return self.path_to(self.given[field])

    def _read(self, field: Field[T], body: JsonObject, context: ParseContext) -> T:
        aliases = field.aliases_in(body)
        if not aliases:
            value: T = field.when_absent(self.path_to(field.name), context.settings)
            return value
        used, *ignored = aliases
        self.given[field.name] = used
        for name in ignored:
            context.warn_ignored(self.path_to(name), self.path_to(used))
        try:
            return field.reader(body[used], context.settings)
        except Refused as refused:
            raise refused.as_error(self.path_to(used)) from None

    def _name_unknown(self, body: JsonObject, context: ParseContext) -> None:
        left = len(body) - sum(name in body for name in self.known)
        if not left:
            return
        inside = f" of {self.at}" if self.at else ""
        for name in body:
            if not left or context.full:
                break
            if name in self.known:
                continue
            left -= 1
            short = str(name)[:_MAX_NAME_CHARACTERS] + ("..." if len(str(name)) > _MAX_NAME_CHARACTERS else "")
            near = difflib.get_close_matches(short.lower(), sorted(self.known), n=1, cutoff=0.75)
            context.warn(
                f"Unknown field {short!r}{inside} was ignored{f'; did you mean {near[0]!r}?' if near else '.'}"
            )
        context.count_ignored(left)
