"""A benchmark's results: a table on the screen, and a JSON file that is rewritten after every row."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


class Report:
    """Rows under headings. The file holds all rows so far, also after an interruption."""

    def __init__(self, path: Path | None, device: torch.device) -> None:
        self._path = path
        self.rows: list[Row] = []
        self.about: Row = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **_machine(device)}
        say(", ".join(f"{name} {value}" for name, value in self.about.items()))
        self._write()

    def add(self, heading: str, **figures: Any) -> None:
        """Keep and show one row; floats are shown to three digits and kept whole."""
        self.rows.append({"heading": heading, **figures})
        shown = ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in figures.items())
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
            cells += [[_shown(row[name]) for name in names] for row in rows]
            widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
            lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
            yield [lines[0], "-" * len(lines[0]), *lines[1:]]

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps({"about": self.about, "rows": self.rows}, indent=1))
        unfinished.replace(self._path)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def _machine(device: torch.device) -> Row:
    found: Row = {
        "device": _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    for package in ("torch", "torchaudio", "transformers", "triton", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
