"""Tables of the pages keep their word: what they name exists, and figures are what their commands print."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import requests

import serverless.client.__main__ as client
from benchmarks import lost_words, quality
from serverless.client.batch import cli as batch
from serverless.config.settings import PREFIX, variables
from serverless.payload.request_fields import ReferenceFields, RequestFields
from serverless.voices.shipped import shipped_designs
from tests.helpers.http_server import Running
from tests.helpers.pages import PAGES, page, section
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE

PAYLOAD = page("docs/payload.md")
_NOT_OF_OURS = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PORT", "PORT_HEALTH"}


def test_every_field_of_the_contract_is_in_the_tables() -> None:
    named = set(re.findall(r"[a-z_0-9]+", section(PAYLOAD, "A request")))
    for table in (RequestFields, ReferenceFields):
        for field in vars(table).values():
            if hasattr(field, "names"):
                assert named & set(field.names), field.names


def test_the_table_of_lost_words_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert "`python -m benchmarks.lost_words`" in PAYLOAD
    assert lost_words.main() == 0
    assert capsys.readouterr().out in PAYLOAD


def test_the_table_of_quality_is_what_its_command_wrote() -> None:
    text = page("docs/performance.md")
    assert "`python -m benchmarks.quality`" in text
    newest = max((ROOT / "benchmarks/results").glob("*quality*.json"))
    assert quality.markdown(json.loads(newest.read_text())["rows"]) in text


def test_every_variable_that_is_not_a_limit_is_in_the_table() -> None:
    text = page("docs/configuration.md")
    short = {PREFIX + name[1:] for name in re.findall(r"`(_[A-Z_]+)`", text)}
    written = set(re.findall(r"\b(?:HIGGS_AUDIO|BUCKET)_[A-Z0-9_]+\b", text)) | short
    assert short <= set(variables())
    limits = set(variables()) - written - _NOT_OF_OURS
    assert all(name.startswith((PREFIX + "MAX_", PREFIX + "MIN_")) for name in limits), limits


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_a_page_names_exists(path: object) -> None:
    named = set(re.findall(r"\b(?:HIGGS_AUDIO|BUCKET)_[A-Z0-9_]*[A-Z0-9]\b(?!_)", page(str(path))))
    assert named <= set(variables())


def test_commands_that_name_a_voice_name_one_that_ships() -> None:
    texts = [page(str(path)) for path in PAGES] + [str(client.__doc__), str(batch.__doc__)]
    named = {voice for text in texts for voice in re.findall(r"--voice (\w+)", text)}
    assert named
    assert named <= set(shipped_designs())


def test_each_kind_of_change_stands_once_in_a_version() -> None:
    for version in page("CHANGELOG.md").split("\n## ")[1:]:
        kinds = Counter(re.findall(r"^### (\w+)$", version, re.MULTILINE))
        assert set(kinds.values()) <= {1}, version.splitlines()[0]


def test_the_routes_named_answer(server: Running) -> None:
    text = page("docs/http_api.md")
    for route in (
        "/ping",
        "/v1/models",
        "/v1/audio/models",
        "/v1/audio/voices",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/",
    ):
        assert f"{route}`" in text
        assert requests.get(server.url + route, timeout=PATIENCE).status_code == 200


def test_the_table_of_metrics_has_each_of_them_and_no_other(server: Running) -> None:
    server.generate({"script": "Count me.", "max_new_tokens": 30})
    exposed = requests.get(f"{server.url}/metrics", timeout=PATIENCE).text
    names = set(re.findall(r"^# TYPE (higgs_\w+)", exposed, re.MULTILINE))
    named = set(re.findall(r"`(higgs_\w+)", section(page("docs/http_api.md"), "Metrics")))
    assert named == {name for name in names if not name.endswith("_created")}
