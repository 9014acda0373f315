"""Which checkpoint is looked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from higgs_core.checkpoint.snapshot import what_is_missing

What = Literal["model", "audio tokenizer", "tokenizer"]
DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class Wanted:
    """A checkpoint that is looked for. names: every name of its repository.  files: what must be in its folder."""

    what: What
    names: tuple[str, ...]
    subfolder: str
    revision: str | None
    files: tuple[str, ...]

    @property
    def repository(self) -> str:
        """The name that the caller gave."""
        return self.names[0]

    def missing_in(self, snapshot: Path) -> str | None:
        """What a snapshot lacks to be this checkpoint, or None."""
        return what_is_missing(snapshot / self.subfolder, self.files, weights=self.what != "tokenizer")
