"""The files that contributors and GitHub read: they parse, and what they name exists."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from typing import Any

import pytest
import yaml

from higgs_core.version import VERSION
from serverless.config.settings import Settings
from serverless.http.app import create_app
from serverless.service.service import SpeechService
from tests.conftest import SLOW
from tests.helpers.paths import ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def load(path: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


# -- the version ------------------------------------------------------------------------------------------------------


def test_the_package_takes_its_version_from_the_module_that_states_it() -> None:
    """As a constant, so that setuptools reads it without importing the package."""
    module, _, name = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    statements = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text()).body
    values = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    assert values == {name: VERSION}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert "version" in PROJECT["project"]["dynamic"]
    assert "version" not in PROJECT["project"]


def test_no_other_file_states_the_version() -> None:
    files = [*(ROOT / "higgs_core").rglob("*.py"), *(ROOT / "serverless").rglob("*.py"), ROOT / "pyproject.toml"]
    stating = [file for file in files if re.search(rf"[\"']v?{re.escape(VERSION)}[\"']", file.read_text())]
    assert stating == [ROOT / "higgs_core/version.py"]


def test_the_http_app_has_the_version() -> None:
    settings = Settings()
    assert create_app(SpeechService(settings), settings).version == VERSION


def test_the_changelogs_newest_release_is_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE)
    assert headings[:2] == ["Unreleased", VERSION]


# -- GitHub -----------------------------------------------------------------------------------------------------------


def test_the_workflow_runs_the_projects_own_script_with_few_rights() -> None:
    workflow = load(".github/workflows/ci.yml")
    assert set(workflow[True]) == {"push", "pull_request", "workflow_call"}  # YAML takes the key `on` for true
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] == 20
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert job["container"]["image"] == f"python:{PROJECT['project']['requires-python'].removeprefix('>=')}-bookworm"
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.stem)
def test_an_issue_form_has_what_github_asks_for(form: Any) -> None:
    content = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= content.keys()
    ids = [field["id"] for field in content["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in content["body"])
    assert any(field.get("validations", {}).get("required") for field in content["body"])


def test_an_issue_needs_a_form() -> None:
    assert {form.stem for form in FORMS} == {"bug_report", "feature_request", "config"}
    assert load(".github/ISSUE_TEMPLATE/config.yml") == {"blank_issues_enabled": False}


# -- hooks ------------------------------------------------------------------------------------------------------------


def hooks() -> dict[str, dict[str, Any]]:
    repositories = load(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]  # so that no hook is downloaded
    return {hook["id"]: hook for repository in repositories for hook in repository["hooks"]}


def test_the_hooks_run_modules_that_the_virtual_environment_has() -> None:
    commands = [hook["entry"].split() for hook in hooks().values() if hook["language"] == "system"]
    assert {command[2] for command in commands} == {"ruff", "mypy"}
    for interpreter, option, module, *_ in commands:
        assert (interpreter, option) == (".venv/bin/python", "-m")
        assert importlib.util.find_spec(module)


def test_the_commit_hook_finds_a_subject_that_is_too_long() -> None:
    pattern = re.compile(hooks()["commit-subject"]["entry"])
    assert not pattern.search("a" * 72 + "\n\n" + "b" * 100)
    assert pattern.search("a" * 73 + "\n")


# -- what contributors read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b((?:higgs_core|serverless|tests)/[\w/.]+)", CONTRIBUTING))))
def test_every_path_that_contributing_names_exists(path: str) -> None:
    assert (ROOT / path.rstrip(".")).exists()


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:`|^)make ([a-z-]+)", CONTRIBUTING + CHANGELOG, re.MULTILINE)))
)
def test_every_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[a-z_]+/[a-z_]+\.py", ARCHITECTURE))))
def test_every_module_of_the_architecture_page_exists(path: str) -> None:
    assert any((ROOT / package / path).is_file() for package in ("higgs_core", "serverless", "."))


@pytest.mark.parametrize("package", ["higgs_core", "serverless"])
def test_the_architecture_page_has_a_sentence_for_every_folder(package: str) -> None:
    table = ARCHITECTURE.split(f"| `{package}/` | |")[1].split("\n\n")[0]
    described = set(re.findall(r"`([a-z_]+)/`", table))
    assert described == {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}


@pytest.mark.parametrize("path", SLOW)
def test_what_is_marked_slow_exists(path: str) -> None:
    assert (ROOT / "tests" / path).exists()
