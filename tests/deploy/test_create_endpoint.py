"""deploy/runpod/create_endpoint.py, against a RunPod API on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from higgs_core.repositories import MODEL, PINNED_REVISIONS
from serverless.config.settings import Settings
from tests.helpers.http_stub import Request, answering
from tests.helpers.scripts import script

create_endpoint = script("deploy/runpod/create_endpoint.py")

IMAGE = ["--image", "name/higgs-audio:1"]
KEY = "rpa_secret"


class Account:
    """An account of RunPod: templates and endpoints by name, each with what was saved last."""

    def __init__(self) -> None:
        self.templates: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.keys: set[str | None] = set()
        self.calls = 0

    @contextmanager
    def running(self) -> Iterator[str]:
        with answering(self._answer) as url:
            yield url

    def _answer(self, request: Request) -> tuple[int, bytes]:
        self.calls += 1
        self.keys.add(request.headers.get("Authorization"))
        asked = json.loads(request.body)
        given = asked["variables"].get("input")
        if "saveTemplate" in asked["query"]:
            data = {"saveTemplate": self._save(self.templates, "template", given)}
        elif "saveEndpoint" in asked["query"]:
            assert given["templateId"] in {each["id"] for each in self.templates.values()}
            data = {"saveEndpoint": self._save(self.endpoints, "endpoint", given)}
        else:
            data = {"myself": {"podTemplates": _named(self.templates), "endpoints": _named(self.endpoints)}}
        return 200, json.dumps({"data": data}).encode()

    def _save(self, where: dict[str, dict[str, Any]], kind: str, given: dict[str, Any]) -> dict[str, Any]:
        existing = next((name for name, each in where.items() if each["id"] == given.get("id")), None)
        assert existing is not None or "id" not in given
        name = existing or given["name"]
        where[name] = {**given, "id": given.get("id") or f"{kind}-{len(where) + 1}"}
        return {"id": where[name]["id"]}


def _named(where: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    return [{"id": each["id"], "name": name} for name, each in where.items()]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    return Account()


def run(account: Account, *options: str) -> int:
    with account.running() as url:
        status: int = create_endpoint.main([*IMAGE, *options, "--apply", "--api-url", url])
    return status


def test_without_apply_nothing_is_sent_and_no_secret_is_shown(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with account.running() as url:
        options = [*IMAGE, "--api-url", url, "--env", "HF_TOKEN=hf_abc", "--env", "HIGGS_AUDIO_LOG_LEVEL=DEBUG"]
        assert create_endpoint.main(options) == 0
    assert account.calls == 0
    printed = capsys.readouterr().out
    assert "hf_abc" not in printed
    plan = json.loads(printed)
    assert plan["saveTemplate"]["imageName"] == "name/higgs-audio:1"
    assert {"key": "HF_TOKEN", "value": "***"} in plan["saveTemplate"]["env"]
    assert {"key": "HIGGS_AUDIO_LOG_LEVEL", "value": "DEBUG"} in plan["saveTemplate"]["env"]


def test_a_queue_endpoint_is_created(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(account, "--volume", "vol-1", "--locations", "EU-RO-1", "--env", "HF_TOKEN=hf=abc") == 0
    assert account.keys == {f"Bearer {KEY}"}
    template, endpoint = account.templates["higgs-audio-template"], account.endpoints["higgs-audio"]
    assert template["isServerless"] is True
    assert {"key": "HF_TOKEN", "value": "hf=abc"} in template["env"]
    assert endpoint["templateId"] == template["id"]
    assert endpoint["type"] == "QB"
    assert endpoint["gpuIds"].endswith("-NVIDIA L4")
    assert (endpoint["scalerType"], endpoint["scalerValue"]) == ("QUEUE_DELAY", 4)
    assert (endpoint["networkVolumeId"], endpoint["locations"]) == ("vol-1", "EU-RO-1")
    assert endpoint["modelReferences"] == [f"https://huggingface.co/{MODEL}:{PINNED_REVISIONS[MODEL]}"]
    out, err = capsys.readouterr()
    assert out == "endpoint-1\n"
    assert "https://api.runpod.ai/v2/endpoint-1" in err
    assert KEY not in out + err


def test_a_load_balancing_endpoint_is_created(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(account, "--kind", "http", "--requests-per-worker", "6") == 0
    template, endpoint = account.templates["higgs-audio-template"], account.endpoints["higgs-audio"]
    assert template["ports"] == "8000/http"
    assert endpoint["type"] == "LB"
    assert (endpoint["scalerType"], endpoint["scalerValue"]) == ("REQUEST_COUNT", 6)
    assert "https://endpoint-1.api.runpod.ai" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--streaming",), ("--kind", "http")])
def test_the_worker_understands_the_variables_that_are_set(account: Account, options: tuple[str, ...]) -> None:
    assert run(account, *options) == 0
    variables = {pair["key"]: pair["value"] for pair in account.templates["higgs-audio-template"]["env"]}
    settings = Settings.from_environment(variables)
    assert settings.model_id == MODEL
    assert settings.streaming == ("--streaming" in options)
    assert settings.mode == ("http" if "http" in options else "queue")


def test_running_it_again_updates_what_is_there(account: Account) -> None:
    assert run(account) == 0
    account.endpoints["higgs-audio -fb"] = account.endpoints.pop("higgs-audio")  # as RunPod renames it
    assert run(account, "--workers-max", "5") == 0
    assert len(account.templates) == len(account.endpoints) == 1
    assert account.endpoints["higgs-audio -fb"]["workersMax"] == 5


def test_without_a_model_the_cache_is_left_alone(account: Account) -> None:
    assert run(account, "--model", "") == 0
    assert "modelReferences" not in account.endpoints["higgs-audio"]


def test_a_missing_key_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    assert create_endpoint.main([*IMAGE, "--apply"]) == 2
    assert "RUNPOD_API_KEY is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "refused the key"),
        (500, b"<html>", "answered 500 without JSON"),
        (200, b"[]", "without JSON"),
        (200, b'{"data": null}', "no reason was given"),
        (200, b'{"errors": [{"message": "no such \\u001b[31mpool\\nat all"}]}', "no such  [31mpool at all"),
        (200, b'{"data": {"myself": null, "saveTemplate": {"id": "a/../b"}}}', "has no id"),
        (302, b"", "answered 302"),
    ],
)
def test_what_the_api_says_becomes_one_sentence(
    status: int, body: bytes, words: str, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lambda _: (status, body)) as url:
        assert create_endpoint.main([*IMAGE, "--apply", "--api-url", url]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert KEY not in err


@pytest.mark.usefixtures("account")
def test_an_api_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(lambda _: (200, b"")) as url:
        pass
    assert create_endpoint.main([*IMAGE, "--apply", "--api-url", url]) == 1
    assert "could not be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image", "name/higgs-audio"], "tag"),
        ([*IMAGE, "--workers-max", "0"], "1 to 100"),
        ([*IMAGE, "--workers-min", "4", "--workers-max", "3"], "--workers-min"),
        ([*IMAGE, "--disk", "ten"], "ten is not a number"),
        ([*IMAGE, "--env", "lower=1"], "NAME=VALUE"),
        ([*IMAGE, "--streaming", "--kind", "http"], "--streaming"),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        create_endpoint.main(options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("image", ["a/b:1", "ghcr.io/a/b:1.2.3", "host:5000/a/b:1", "a/b@sha256:" + "0" * 64])
def test_an_image_with_a_tag_or_a_digest_is_taken(image: str) -> None:
    assert create_endpoint.main(["--image", image]) == 0
