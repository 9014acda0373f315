"""What the pages name exists: links and their headings, files, targets of make, modules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.pages import PAGES, page
from tests.helpers.paths import ROOT

LINKS = sorted({(path, link) for path in PAGES for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text())})


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("path", "link"), LINKS, ids=lambda value: getattr(value, "name", value))
def test_every_link_leads_somewhere(path: Path, link: str) -> None:
    target, _, anchor = link.partition("#")
    file = (path.parent / target).resolve() if target else path
    assert file.exists()
    assert not anchor or anchor in anchors(file)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    for name in re.findall(r"`((?:higgs_core|serverless|benchmarks|deploy|tests)/[\w./]+\.\w+)`", path.read_text()):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_target_of_make_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)) <= targets


def test_the_readme_leads_to_every_page() -> None:
    for path in PAGES:
        if path.name != "README.md":
            assert f"]({path.relative_to(ROOT)})" in page("README.md")
