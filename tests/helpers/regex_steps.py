"""Counts the steps of a backtracking search: how a pattern's work grows with a text, without a clock.

A plain backtracking matcher over Python's own parse of the pattern. It tries what Python's matcher tries, in the same
order and without its shortcuts, so it takes at least as many steps.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

Node = tuple[Any, Any]
Groups = dict[int, tuple[int, int]]


class CountedPattern:
    """`pattern`, which is made of what this project uses; the steps of its searches are added up in `steps`."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._nodes: list[Node] = list(_parser.parse(pattern.pattern, pattern.flags))
        self._flags = pattern.flags
        self.steps = 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where `finditer` finds the pattern."""
        found: list[tuple[int, int]] = []
        start = 0
        while start <= len(text):
            end = next((end for end, _ in self._match(self._nodes, text, start, {}, self._flags)), None)
            if end is None:
                start += 1
                continue
            found.append((start, end))
            start = end if end > start else end + 1
        return found

    def is_full_match(self, text: str) -> bool:
        """Whether the whole text matches."""
        return any(end == len(text) for end, _ in self._match(self._nodes, text, 0, {}, self._flags))

    def _match(
        self, nodes: Sequence[Node], text: str, at: int, groups: Groups, flags: int
    ) -> Iterator[tuple[int, Groups]]:
        self.steps += 1
        if not nodes:
            yield at, groups
            return
        (kind, value), rest = nodes[0], nodes[1:]
        if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            if at < len(text) and _is_one(kind, value, text[at], flags):
                yield from self._match(rest, text, at + 1, groups, flags)
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield from self._match([*branch, *rest], text, at, groups, flags)
        elif kind is op.SUBPATTERN:
            group, added, removed, inner = value
            inner_flags = (flags | added) & ~removed
            for end, seen in self._match(list(inner), text, at, groups, inner_flags):
                yield from self._match(rest, text, end, seen if group is None else {**seen, group: (at, end)}, flags)
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            yield from self._repeat(value, rest, text, at, groups, flags, greedy=kind is op.MAX_REPEAT)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            direction, inner = value
            assert direction == 1, "a look behind"
            found = any(True for _ in self._match(list(inner), text, at, groups, flags))
            if found == (kind is op.ASSERT):
                yield from self._match(rest, text, at, groups, flags)
        elif kind is op.GROUPREF:
            start, end = groups.get(value, (0, -1))
            if end >= start and text.startswith(text[start:end], at):
                yield from self._match(rest, text, at + end - start, groups, flags)
        else:
            assert kind is op.AT, kind
            assert value in (op.AT_BOUNDARY, op.AT_BEGINNING), value
            if at == 0 if value is op.AT_BEGINNING else _is_word(text, at - 1) != _is_word(text, at):
                yield from self._match(rest, text, at, groups, flags)

    def _repeat(
        self, value: Any, rest: Sequence[Node], text: str, at: int, groups: Groups, flags: int, *, greedy: bool
    ) -> Iterator[tuple[int, Groups]]:
        least, most, inner = value
        if greedy is False and least == 0:
            yield from self._match(rest, text, at, groups, flags)
        if most > 0:
            fewer = (max(0, least - 1), most if most is op.MAXREPEAT else most - 1, inner)
            kind = op.MAX_REPEAT if greedy else op.MIN_REPEAT
            for end, seen in self._match(list(inner), text, at, groups, flags):
                if end > at:
                    yield from self._match([(kind, fewer), *rest], text, end, seen, flags)
        if greedy and least == 0:
            yield from self._match(rest, text, at, groups, flags)


@contextmanager
def deep_recursion() -> Iterator[None]:
    """The matcher goes as deep as its text is long."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(200_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _is_one(kind: Any, value: Any, character: str, flags: int) -> bool:
    """Whether a node that stands for one character stands for this one."""
    code = ord(character)
    if kind is op.LITERAL:
        return bool(code == value)
    if kind is op.NOT_LITERAL:
        return bool(code != value)
    if kind is op.ANY:
        return character != "\n" or bool(flags & re.DOTALL)
    negated = value[0][0] is op.NEGATE
    return negated != any(_is_in(item, argument, character, flags) for item, argument in value[negated:])


def _is_in(item: Any, argument: Any, character: str, flags: int) -> bool:
    if item is op.LITERAL:
        return bool(ord(character) == argument)
    if item is op.RANGE:
        return bool(argument[0] <= ord(character) <= argument[1])
    assert item is op.CATEGORY, item
    name, negated = str(argument).removeprefix("CATEGORY_"), "NOT_" in str(argument)
    ascii_only = bool(flags & re.ASCII)
    holds = {
        "DIGIT": character.isdecimal(),
        "SPACE": character.isspace(),
        "WORD": character.isalnum() or character == "_",
    }[name.removeprefix("NOT_")]
    return negated != (holds and (character.isascii() or not ascii_only))


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")
