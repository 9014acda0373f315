"""docs/faults.md and docs/security.md: every row names a test, and the test exists."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

DOCS = ROOT / "docs"
LEAST_FAULTS = 20


def rows(page: str) -> list[list[str]]:
    """The cells of every row of every table of a page, without the tables' heads."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", (DOCS / page).read_text() + "\n", re.MULTILINE):
        for line in table.splitlines()[2:]:
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


@lru_cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


ROWS = [(page, row) for page in ("faults.md", "security.md") for row in rows(page)]


@pytest.mark.parametrize(("page", "row"), ROWS, ids=lambda value: value if isinstance(value, str) else value[0])
def test_every_row_leads_to_tests_that_exist(page: str, row: list[str]) -> None:
    assert all(row), "a cell is empty"
    links = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", row[-1])
    assert links
    for name, target in links:
        assert name in functions_of((DOCS / target).resolve())


def test_there_is_a_row_for_every_kind_of_fault() -> None:
    assert len(rows("faults.md")) >= LEAST_FAULTS


@pytest.mark.parametrize("page", ["faults.md", "security.md"])
def test_nothing_is_listed_twice(page: str) -> None:
    named = [row[0] for row in rows(page)]
    assert [name for name in sorted(set(named)) if named.count(name) > 1] == []
