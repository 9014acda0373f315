"""JSON that a person wrote: what is wrong with it, and where a field stands, as line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_CONSTANT = re.compile(r"[:\[,\s](-?Infinity|NaN)\b")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class JsonTextError(ValueError):
    """What is wrong, in one sentence. line and column count from 1."""

    def __init__(self, sentence: str, line: int, column: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.line = line
        self.column = column


def read_text(file: Path, *, max_bytes: int) -> str:
    """The text of a UTF-8 file, with or without a byte order mark. Raises JsonTextError, and OSError."""
    with file.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise JsonTextError(f"the file is larger than {max_bytes / 1e6:g} MB.", 1, 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - before.rfind(b"\n")
        raise JsonTextError("the file is not UTF-8 text.", before.count(b"\n") + 1, column) from None


def parse_json(text: str) -> Any:
    """The value. Raises JsonTextError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except _ConstantError:
        found = _CONSTANT.search(f" {text}")
        at = found.start(1) - 1 if found else 0
        raise JsonTextError("this is not JSON: NaN and Infinity are no numbers.", *_place(text, at)) from None
    except json.JSONDecodeError as error:
        raise JsonTextError(f"this is not JSON: {error.msg}.", error.lineno, error.colno) from None
    except RecursionError:
        raise JsonTextError("this is nested too deep.", 1, 1) from None
    except ValueError:  # a number of thousands of digits
        raise JsonTextError("a number has too many digits.", 1, 1) from None


def position_of(text: str, path: str | None) -> tuple[int, int]:
    """Line and column of a field such as `references[0].transcript` in a JSON text that parses.

    The deepest part of the path that is there; the first sign of the value where nothing of it is.
    """
    at = spot = _after_space(text, 0)
    for name, index in _STEP.findall(path or ""):
        wanted = int(index) if index else name
        found = [member for member in _members(text, at) if member[0] == wanted]
        if not found:
            break
        _, spot, at = found[-1]  # of two equal keys the last one counts
    return _place(text, spot)


def _place(text: str, at: int) -> tuple[int, int]:
    """Line and column of a position, both from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _members(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    """(key or index, where it begins, where its value begins) of the object or list at a position, if it is one."""
    opened = text[at : at + 1]
    if opened not in ("{", "["):
        return
    at = _after_space(text, at + 1)
    index = 0
    while text[at : at + 1] not in ("", "}", "]"):
        spot, key = at, index
        if opened == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # behind the colon
        yield key, spot, at
        _, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)
        index += 1


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


class _ConstantError(ValueError):
    """NaN or an infinity, which Python's reader would take."""


def _refuse_constant(_: str) -> NoReturn:
    raise _ConstantError
