"""Every pattern that reads a client's text takes time that is linear in it: shown by counting steps, not seconds."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import higgs_core.prompt
import higgs_core.speech
import higgs_core.text
import serverless.config
import serverless.delivery
import serverless.payload
from higgs_core.text.markup import INSTRUCTION_END, INSTRUCTION_START
from tests.helpers.paths import ROOT
from tests.helpers.regex_steps import CountedPattern, deep_recursion

PACKAGES = (
    higgs_core.text,
    higgs_core.speech,
    higgs_core.prompt,
    serverless.payload,
    serverless.config,
    serverless.delivery,
)
CHARACTERS = 96
UNITS = (
    *("a", "A", "1", " ", "\n", ".", ",", "-", "'", "_", "[", "]", "(", "<", ">", "/", ":", "e", "+", "\0"),
    *("1,", "1.", "A.", "AB ", "a[", "[]", "[a", "[a]", "[SPEAKER", "[SPEAKER1", "[SPEAKER1]", "SPEAKER1"),
    *("[pause", "[PAUSE 1", "[pause 1s]", "Ann:", "[Ann]:"),
    *("<SE>", "</SE>", "<SE>[", "<SE>[a]</SE_e>", "<SE_s><SE_e>", "s3.", ".s3-a-", "0e", "1e1", ".1"),
    *(
        "中",
        "《",
        "中《",
        "《a",
        "。",
        "ก",
        "한",
        "é",
        "e\u0301",
        "\u0301",
        "\u202e",
        "\u200d",
        "👩\u200d💻",
        "\ud800",
        "١",
    ),
    *(INSTRUCTION_START, INSTRUCTION_END, INSTRUCTION_START + "a", INSTRUCTION_START + INSTRUCTION_END),
)
ENDS = ("", "!", " ")
# Patterns that are used in one way alone, which a test holds; the other way need not be linear.
NEVER_SEARCHED = {
    "higgs_core.text.sentence_marks._INITIALS",
    *(f"serverless.delivery.object_address.{name}" for name in ("_AWS_HOST", "_AWS_S3_HOST", "_REGION")),
}
NEVER_MATCHED_WHOLE = {"higgs_core.text.chunking._RUN"}


def patterns() -> dict[str, re.Pattern[str]]:
    """Every pattern that is a module's own, by its name."""
    found = {}
    for package in PACKAGES:
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str) and value not in found.values():
                    found[f"{module.name}.{name}"] = value
    return found


def texts(characters: int) -> list[str]:
    """Floods of each unit, with an end that may keep the whole from matching, and behind an opening."""
    floods = [unit * max(1, characters // len(unit)) for unit in UNITS]
    openings = (INSTRUCTION_START, "<SE>")
    return [flood + end for flood in floods for end in ENDS] + [
        opening + flood for opening in openings for flood in floods
    ]


@pytest.mark.parametrize("name", sorted(patterns()))
def test_the_steps_of_a_search_grow_no_faster_than_the_text(name: str) -> None:
    pattern = patterns()[name]
    with deep_recursion():
        for once, twice in zip(texts(CHARACTERS), texts(2 * CHARACTERS), strict=True):
            steps = []
            for text in (once, twice):
                counted = CountedPattern(pattern)
                if name not in NEVER_SEARCHED:
                    assert counted.spans(text) == [found.span() for found in pattern.finditer(text)]
                if name not in NEVER_MATCHED_WHOLE:
                    assert counted.is_full_match(text) == (pattern.fullmatch(text) is not None)
                steps.append(counted.steps)
            assert steps[1] <= 2.3 * steps[0] + 500, (once[:40], steps)


@pytest.mark.parametrize(
    ("names", "ways"),
    [(NEVER_SEARCHED, {"fullmatch", "pattern"}), (NEVER_MATCHED_WHOLE, {"finditer", "search", "match"})],
)
def test_a_pattern_that_is_used_in_one_way_is_used_in_no_other(names: set[str], ways: set[str]) -> None:
    for name in names:
        module, _, constant = name.rpartition(".")  # private, so that its module alone uses it
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        used = re.findall(rf"\b{constant}\b(?! = )(?:\.(\w+))?", source)
        assert used
        assert set(used) <= ways


def test_the_count_shows_a_pattern_that_is_not_linear() -> None:
    with deep_recursion():
        for pattern in (r"a*b", r"[a-z]*[a-z]*!"):
            steps = []
            for characters in (20, 40):
                counted = CountedPattern(re.compile(pattern))
                counted.spans("a" * characters + "?")
                steps.append(counted.steps)
            assert steps[1] > 3 * steps[0]
