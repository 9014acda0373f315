"""The lines that a process writes to its log, one for each job that reached its service."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any


class JobLines:
    """Reads on where it stopped before. The process logs as on the platform: a line of JSON each."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self.lines: Counter[str] = Counter()
        """Lines of each job's id."""
        self.codes: dict[str, str] = {}
        """Of jobs that failed, by id."""

    def update(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            entry: Any = json.loads(line)
        except ValueError:
            return
        fields = entry.get("fields") if isinstance(entry, dict) else None
        if fields and "outcome" in fields:
            self.lines[entry["requestId"]] += 1
            if "code" in fields:
                self.codes[entry["requestId"]] = fields["code"]
