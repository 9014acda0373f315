"""Lists, objects and texts that count what is read of them: work that can be asserted without a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Counter:
    """Entries, keys and characters that were visited."""

    visited: int = 0


class CountedList(list[Any]):
    counter: Counter

    def __iter__(self) -> Iterator[Any]:
        for entry in super().__iter__():
            self.counter.visited += 1
            yield entry

    def __getitem__(self, at: Any) -> Any:
        self.counter.visited += 1
        return super().__getitem__(at)


class CountedDict(dict[str, Any]):
    counter: Counter

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.counter.visited += 1
            yield key

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return (self[key] for key in self)

    def items(self) -> Any:
        return ((key, self[key]) for key in self)


class CountedText(str):
    """A text of which each method that looks at all of it counts its characters."""

    counter: Counter


def _counting(name: str) -> Any:
    plain = getattr(str, name)

    def method(self: CountedText, *arguments: Any) -> Any:
        self.counter.visited += len(self)
        return plain(self, *arguments)

    return method


for _name in (
    *("strip", "lstrip", "rstrip", "split", "splitlines", "lower", "upper", "casefold", "encode", "translate"),
    *("replace", "isspace", "isprintable", "isalnum", "startswith", "endswith", "find", "count", "partition"),
):
    setattr(CountedText, _name, _counting(_name))


def counted(value: Any, counter: Counter, depth: int = 10) -> Any:
    """`value` with every list, object and text in it counting, down to `depth` levels."""
    made: dict[int, Any] = {}  # by the id of what it stands for: the same object in many places stays one

    def within(inner: Any, depth: int) -> Any:
        if id(inner) not in made:
            made[id(inner)] = _counted(inner, counter, lambda entry: within(entry, depth - 1) if depth else entry)
        return made[id(inner)]

    return within(value, depth)


def _counted(value: Any, counter: Counter, within: Callable[[Any], Any]) -> Any:
    made: Any
    if isinstance(value, list):
        made = CountedList([within(entry) for entry in value])
    elif isinstance(value, dict):
        made = CountedDict({key: within(entry) for key, entry in value.items()})
    elif isinstance(value, str):
        made = CountedText(value)
    else:
        return value
    made.counter = counter
    return made
