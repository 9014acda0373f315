"""Who may read, add and remove voices over HTTP."""

from __future__ import annotations

import logging

import pytest
import requests
from fastapi.testclient import TestClient

from serverless.config.settings import Settings
from serverless.http.app import create_app
from tests.helpers.http_server import Running
from tests.helpers.patience import PATIENCE
from tests.helpers.voice_routes import DATA, KEY, ROUTE, TEXTS, delete, refused, upload


def test_all_of_it_is_behind_the_key(worker: Running) -> None:
    settings = worker.service.settings.model_copy(update={"api_key": Settings(api_key=KEY).api_key})
    locked = TestClient(create_app(worker.service, settings), raise_server_exceptions=False)
    for method, path in (("GET", ""), ("GET", "/alloy"), ("GET", "/alloy/preview"), ("POST", ""), ("DELETE", "/alloy")):
        assert locked.request(method, ROUTE + path).status_code == 401
        opened = locked.request(method, ROUTE + path, headers={"Authorization": f"Bearer {KEY}"})
        assert opened.status_code != 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://a.example", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_unread(worker: Running, headers: dict[str, str]) -> None:
    answer = requests.post(
        f"{worker.url}{ROUTE}", data=TEXTS, files={"audio_sample": DATA}, headers=headers, timeout=PATIENCE
    )
    refused(answer, 403)


def test_a_form_of_the_workers_own_page_is_taken_whatever_a_proxy_calls_its_host(worker: Running) -> None:
    for name, headers in (
        ("one", {"Origin": worker.url}),
        ("two", {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}),
    ):
        answer = requests.post(
            f"{worker.url}{ROUTE}",
            data=TEXTS | {"name": name},
            files={"audio_sample": DATA},
            headers=headers,
            timeout=PATIENCE,
        )
        assert answer.status_code == 200


def test_nothing_of_a_voice_is_logged(worker: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        upload(worker, name="secretname", consent="secretconsent", ref_text="secretwords")
        upload(worker, name="secretname", consent="secretconsent")
        delete(worker, "secretname")
        delete(worker, "secretname")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "added" in line]
    assert [line for line in lines if "code=voice_not_found" in line]
    assert [line for line in lines if "code=voice_exists" in line]
    assert not [line for line in lines if "secret" in line]
