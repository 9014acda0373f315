"""A benchmark's results: lines on the screen, tables at the end, and a JSON file that is rewritten after every row."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_WIDEST = 120  # characters of a table's cell


class Report:
    """Rows under headings. The file holds all rows so far, also after an interruption.

    path: of the JSON file; None: not named yet, or none wanted.  about: the machine and the versions.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.about: Row = dict(about)
        say(", ".join(f"{name} {value}" for name, value in self.about.items()))
        self._write()

    @property
    def path(self) -> Path | None:
        return self._path

    @path.setter
    def path(self, path: Path) -> None:
        self._path = path
        self._write()

    def add(self, heading: str, **figures: Any) -> None:
        """Keep and show one row; floats are shown to three digits and kept whole, and NaN becomes null."""
        self.rows.append({"heading": heading, **{name: _plain(value) for name, value in figures.items()}})
        shown = ", ".join(f"{name.replace('_', ' ')} {shown_value(value)}" for name, value in figures.items())
        say(f"{heading}: {shown}")
        self._write()

    def table(self) -> str:
        """Every row, headings with the same figures in one table."""
        return "\n\n".join("\n".join(lines) for lines in self._tables())

    def _tables(self) -> Iterator[list[str]]:
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault(tuple(row), []).append(row)
        for names, rows in groups.items():
            cells = [[name.replace("_", " ") for name in names]]
            cells += [[_in_a_line(row[name]) for name in names] for row in rows]
            widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
            lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
            yield [lines[0], "-" * len(lines[0]), *lines[1:]]

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps({"about": self.about, "rows": self.rows}, indent=1, allow_nan=False))
        unfinished.replace(self._path)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def shown_value(value: Any) -> str:
    """As tables show it: floats to three digits, or to a tenth."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.1f}"


def _in_a_line(value: Any) -> str:
    """The last line of a text, which is where a traceback says what happened."""
    lines = shown_value(value).splitlines() or [""]
    return lines[-1] if len(lines[-1]) <= _WIDEST else lines[-1][: _WIDEST - 1] + "…"


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
