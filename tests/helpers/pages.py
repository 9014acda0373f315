"""The pages that users and contributors read, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.paths import ROOT

PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
)


@dataclass(frozen=True)
class Block:
    """One fenced block, dedented (some stand in a list)."""

    page: Path
    language: str
    body: str

    def __str__(self) -> str:
        first = self.body.strip().splitlines()[0]
        return f"{self.page.relative_to(ROOT)}: {first[:50]}"


def page(name: str) -> str:
    """The text of a page, by its path from the root."""
    return (ROOT / name).read_text()


def blocks_of(path: Path) -> list[Block]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(path, language, re.sub(f"^{indent}", "", body, flags=re.M)) for indent, language, body in found]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
